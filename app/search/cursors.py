"""What cursors are made of: bytes as URL-safe text, which a client sends back unread."""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

from pydantic import BaseModel

from app.problems import InvalidRequest

# The longest cursor that a request may have, and the most that one holds.
MAX_CHARACTERS = 60_000
MAX_BYTES = 200_000
TOO_LONG = "This query is too long for a next page."


def of(state: BaseModel, *, prefix: str = "") -> str | None:
    """Return what a next page needs as a cursor, None if it would be too long to be read."""
    packed = state.model_dump_json(exclude_defaults=True).encode()
    cursor = prefix + written(zlib.compress(packed))
    is_short = len(packed) < MAX_BYTES and len(cursor) <= MAX_CHARACTERS
    return cursor if is_short else None


def opened(cursor: str, *, prefix: str = "") -> bytes:
    """Return the JSON that a cursor holds; raises `ValueError` or `zlib.error`."""
    return zlib.decompressobj().decompress(read(cursor.removeprefix(prefix)), MAX_BYTES)


def written(packed: bytes) -> str:
    """Return the bytes of a cursor as text."""
    return urlsafe_b64encode(packed).decode().rstrip("=")


def read(cursor: str) -> bytes:
    """Return the bytes of a cursor; raises `ValueError`."""
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def pieces(packed: bytes, size: int) -> list[bytes]:
    """Return packed values of `size` bytes each; raises `ValueError` if something is left over."""
    if len(packed) % size:
        raise ValueError("values are cut off")
    return [packed[start : start + size] for start in range(0, len(packed), size)]


def not_ours() -> InvalidRequest:
    """Return the problem of a cursor that no answer had, or that an older version made."""
    return InvalidRequest("cursor: not a cursor that this server issued.")
