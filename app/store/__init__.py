"""All SQL: the database, its tables, vectors, filters and job items; the LlamaIndex adapter.

It may import `encoding` and `pictures`.
"""
