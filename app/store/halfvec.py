"""Vectors as the bytes that pgvector's `halfvec` sends and receives."""

import numpy as np

from app.encoding.encoder import Vector


def halfvec_bytes(vector: Vector) -> bytes:
    """Return a vector as bytes: the number of dimensions, zero, and big-endian float16."""
    return np.array([len(vector), 0], ">u2").tobytes() + vector.astype(">f2").tobytes()
