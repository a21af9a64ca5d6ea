"""Indexing: fetch, decode, embed, store; the sources of images; export and import.

It may import `store` and below.
"""
