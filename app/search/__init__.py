"""Queries, their vectors and words, the hits they find; groups of duplicates.

It may import `indexing` and below.
"""
