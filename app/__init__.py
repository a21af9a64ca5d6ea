"""Lookalike: a reverse image search server."""
