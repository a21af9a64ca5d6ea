"""A query with everything it names read and embedded, and how far its results have been given.

As a text it is the cursor of the next page, which so needs nothing kept on the server.
"""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from app.encoding.encoder import Vector
from app.problems import InvalidRequest
from app.store.filters import NO_FILTERS, Filters
from app.store.nearest import Beyond

LARGEST = 100_000


class Asked(BaseModel):
    """What is looked for: a `vector` (float16, as the store compares), `words`, or both.

    Results of a vector alone go on behind `distance`, where `shown` were shown already; results
    that were ranked together go on at `offset`, among what was indexed `before` the first page.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", frozen=True)

    vector: bytes | None
    words: str
    filters: Filters = NO_FILTERS
    left_out: Sequence[UUID] = ()
    min_similarity: float | None = None
    diversity: float = 0.0
    sha256: str | None = None
    dhash: int | None = None
    too_plain: bool = False
    before: datetime
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    distance: float | None = None
    shown: Sequence[UUID] = ()
    offset: int = 0

    @property
    def query_vector(self) -> Vector | None:
        """The vector as float32."""
        if self.vector is None:
            return None
        return np.frombuffer(self.vector, np.float16).astype(np.float32)

    @property
    def beyond(self) -> Beyond | None:
        """Where the last page ended."""
        return None if self.distance is None else Beyond(self.distance, self.shown)

    def cursor(self) -> str:
        """Return it as a text that URLs can hold."""
        given = self.model_dump_json(exclude_defaults=True).encode()
        return urlsafe_b64encode(zlib.compress(given)).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str, *, dimensions: int) -> "Asked":
        """Return what a cursor says; raises `InvalidRequest`."""
        try:
            packed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            asked = cls.model_validate_json(zlib.decompressobj().decompress(packed, LARGEST))
        except (ValueError, zlib.error, ValidationError) as exc:
            raise InvalidRequest("cursor: not one that this server gave out.") from exc
        if asked.vector is not None and len(asked.vector) != 2 * dimensions:
            raise InvalidRequest("cursor: it is of another encoder; search again.")
        vector = asked.query_vector
        if vector is not None and not np.isfinite(vector).all():
            raise InvalidRequest("cursor: not one that this server gave out.")
        return asked
