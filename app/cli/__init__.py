"""The command line: what each command takes, does and prints.

It may import everything below; `web` only to serve.
"""
