"""What cursors are made of: bytes as URL-safe text, which a client sends back unread."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from app.problems import InvalidRequest

# The longest cursor that a request may have.
MAX_CHARACTERS = 60_000


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
