"""HTTP: the server, security, the JSON endpoints and their schemas, the pages.

It may import `lookalike` and below.
"""
