"""Durable jobs: creating them, working on them, and captions.

It may import `indexing` and below, not `search`.
"""
