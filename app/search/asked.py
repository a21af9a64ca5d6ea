"""A resolved query, with its position in the results.

It serialises to the cursor of the next page, so that the server keeps no state for it.
"""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from app.encoding.encoder import Vector
from app.indexing.requests import MAX_INTEGER, MAX_TEXT, is_storable, parse
from app.problems import InvalidRequest
from app.search.query import MOST_TERMS
from app.search.requests import FilterRequest
from app.store.filters import NO_FILTERS, Filters
from app.store.nearest import Beyond

MAX_BYTES = 200_000
NOT_OURS = "cursor: not a cursor that this server issued."

Cosine = Annotated[float, Field(ge=-1, le=1)]


class Asked(BaseModel):
    """A query by `vector` (float16 bytes, as the store compares them), by `words`, or by both.

    By vector alone, the next page starts at the cosine distance `distance`, without the images
    `shown`, which earlier pages had at that distance. With words, it starts at `offset` among the
    images indexed `before` the first page.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", frozen=True)

    vector: bytes | None
    # Twice, because subtracted texts are put in quotes.
    words: str = Field(max_length=2 * MAX_TEXT)
    filters: Filters = NO_FILTERS
    left_out: Sequence[UUID] = Field((), max_length=3 * MOST_TERMS)
    min_similarity: Cosine | None = None
    diversity: float = Field(0.0, ge=0, le=1)
    sha256: str | None = Field(None, max_length=64)
    dhash: int | None = Field(None, ge=-MAX_INTEGER - 1, le=MAX_INTEGER)
    too_plain: bool = False
    before: AwareDatetime
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    distance: Annotated[float, Field(ge=-1, le=3)] | None = None
    shown: Sequence[UUID] = ()
    offset: Annotated[int, Field(ge=0, le=MAX_INTEGER)] = 0

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
            raise InvalidRequest(NOT_OURS) from exc
        if not is_storable(asked.words) or (asked.vector is None and not asked.words):
            raise InvalidRequest(NOT_OURS)
        asked = asked.model_copy(update={"filters": _checked(asked.filters)})
        if asked.vector is not None and len(asked.vector) != 2 * dimensions:
            raise InvalidRequest("cursor: it belongs to another encoder; search again.")
        vector = asked.query_vector
        if vector is not None and not np.isfinite(vector).all():
            raise InvalidRequest(NOT_OURS)
        return asked


def _checked(filters: Filters) -> Filters:
    """Return the filters of a cursor, checked as those of a request are."""
    given = {name: value for name, value in asdict(filters).items() if value not in (None, ())}
    if filters.box is not None:
        given["box"] = list(asdict(filters.box).values())
    return parse(FilterRequest, given).filters
