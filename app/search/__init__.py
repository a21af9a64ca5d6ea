"""From a query to its vector and words, and on to hits; duplicates.

It may import `indexing` and below.
"""
