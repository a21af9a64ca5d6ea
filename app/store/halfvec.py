"""Vectors as the bytes that pgvector's `halfvec` sends and receives."""

import numpy as np
from psycopg import adapters
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from app.encoding.encoder import Vector


def halfvec_bytes(vector: Vector) -> bytes:
    """Return a vector as bytes: the number of dimensions, zero, and big-endian float16."""
    return np.array([len(vector), 0], ">u2").tobytes() + vector.astype(">f2").tobytes()


class Half:
    """A vector as a halfvec parameter."""

    def __init__(self, vector: Vector) -> None:
        self.vector = vector


class _Dumper(Dumper):
    """Writes it as pgvector receives it."""

    format = Format.BINARY

    def dump(self, obj: Half) -> Buffer | None:
        """Return the bytes of the parameter."""
        return halfvec_bytes(obj.vector)


adapters.register_dumper(Half, _Dumper)
