"""A resolved query, with its position in the results.

It serialises to the cursor of the next page, so that the server keeps no state for it.
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

MAX_BYTES = 100_000


class Asked(BaseModel):
    """A query by `vector` (float16 bytes, as the store compares them), by `words`, or by both.

    By vector alone, the next page starts at the cosine distance `distance`, without the images
    `shown`, which earlier pages had at that distance. With words, it starts at `offset` among the
    images indexed `before` the first page.
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
        """The vector as float32, None for a query by words only."""
        if self.vector is None:
            return None
        return np.frombuffer(self.vector, np.float16).astype(np.float32)

    @property
    def beyond(self) -> Beyond | None:
        """Where the last page ended; None on the first page."""
        return None if self.distance is None else Beyond(self.distance, self.shown)

    def cursor(self) -> str:
        """Return the query as a URL-safe string."""
        packed = self.model_dump_json(exclude_defaults=True).encode()
        return urlsafe_b64encode(zlib.compress(packed)).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str, *, dimensions: int) -> "Asked":
        """Return the query of a cursor; raises `InvalidRequest` unless this encoder made it."""
        try:
            packed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            asked = cls.model_validate_json(zlib.decompressobj().decompress(packed, MAX_BYTES))
        except (ValueError, zlib.error, ValidationError) as exc:
            raise InvalidRequest("cursor: not a cursor that this server issued.") from exc
        if asked.vector is not None and len(asked.vector) != 2 * dimensions:
            raise InvalidRequest("cursor: it belongs to another encoder; search again.")
        vector = asked.query_vector
        if vector is not None and not np.isfinite(vector).all():
            raise InvalidRequest("cursor: not a cursor that this server issued.")
        return asked
