"""Everything that holds SQL: the database and its tables, vectors, filters, job items; the
LlamaIndex adapter.

It may import `encoding` and `pictures`.
"""
