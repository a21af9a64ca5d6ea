"""Faces in images: off by default; the models are fetched on demand and kept apart."""
