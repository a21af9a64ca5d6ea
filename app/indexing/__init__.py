"""Fetch, decode, embed, store; the sources of images, and the archive.

It may import `store` and below.
"""
