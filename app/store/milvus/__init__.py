"""Vectors in Milvus: its collections, the outbox that keeps them true, and searches by them.

Part of store/. `client.py` alone imports pymilvus, and only once something is asked of it. Postgres
keeps every vector: Milvus brings candidates, and Postgres checks them.
"""
