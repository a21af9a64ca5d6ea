"""Durable jobs on the queue, and captions.

It may import `indexing` and below, not `search`.
"""
