"""HTTP: the server, the JSON endpoints and their schemas, the pages.

It may import `lookalike` and below.
"""
