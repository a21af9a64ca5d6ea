"""The command line: the commands, their options, and what they print.

It may import everything below; `web` only to serve.
"""
