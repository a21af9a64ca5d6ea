"""A resolved query, with its position in the results.

It serialises to the cursor of the next page, so that the server keeps no state for it.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.encoding.encoder import Vector
from app.indexing.requests import MAX_TEXT, is_storable, parse
from app.problems import InvalidRequest
from app.search import cursors
from app.search.hits import Match, Reason
from app.search.proofs import Proof
from app.search.query import MOST_TERMS
from app.search.requests import FilterRequest, written_range
from app.search.sorting import MatchAtLeast, Sort
from app.search.verification import Verified
from app.store.beside import Beside
from app.store.filters import NO_FILTERS, Filters
from app.store.fingerprints import BRIEF_BYTES, Fingerprint, brief
from app.store.nearest import FILE_DIGITS, Beyond
from app.store.spaces import SpaceKind, Spaces
from app.store.vectors import ROUNDING

Cosine = Annotated[float, Field(ge=-1, le=1)]

# What found an image, as one letter.
_LETTERS: Mapping[Sequence[Reason], str] = {
    ("picture",): "p",
    ("text",): "t",
    ("picture", "text"): "b",
}
_REASONS = {letter: reasons for reasons, letter in _LETTERS.items()}
# Bytes of a SHA-256.
_FILE = FILE_DIGITS // 2


class Asked(BaseModel):
    """A query by `vector` (float16 bytes, as the store compares them), by `words`, or by both.

    The vector is one of the space `ranked_by`. Of a query by one whole image, there may also be a
    `copy_vector`.

    By vector alone, the next page starts at the cosine distance `distance`, without the files
    `shown`, the beginnings of whose SHA-256 earlier pages had at that distance or up to the
    distance `reach`. With words, it has
    the first of the images that the first page left: `left`, the `brief` ids in the order of the
    merged ranking, and for each a letter of `found`.

    Of a query by one whole image, of (width, height) `size`, `proofs` are what was proved of
    results that earlier pages did not have, and `lifted` the beginnings of the SHA-256 of those
    that are given before all others. With a `match`, there are no others.
    """

    # An unknown field is the position of a cursor that an older version made.
    model_config = ConfigDict(
        ser_json_bytes="base64", val_json_bytes="base64", frozen=True, extra="forbid"
    )

    vector: bytes | None
    ranked_by: SpaceKind = "semantic"
    copy_vector: bytes | None = None
    # Twice, because subtracted texts are put in quotes.
    words: str = Field(max_length=2 * MAX_TEXT)
    filters: Filters = NO_FILTERS
    left_out: Sequence[UUID] = Field((), max_length=3 * MOST_TERMS)
    min_similarity: Cosine | None = None
    diversity: float = Field(0.0, ge=0, le=1)
    sha256: str | None = Field(None, max_length=64)
    size: tuple[int, int] | None = None
    match: MatchAtLeast | None = None
    sort: Sort = "best"
    proofs: Sequence[Proof] = ()
    lifted: bytes = b""
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    distance: Annotated[float, Field(ge=-1, le=3)] | None = None
    shown: bytes = b""
    reach: Annotated[float, Field(ge=-1, le=3)] | None = None
    left: bytes = b""
    found: str = ""
    # Of the request, not of the query: no cursor has it.
    beside: frozenset[Beside] = Field(frozenset[Beside](), exclude=True)

    @property
    def query_vector(self) -> Vector | None:
        """The vector as float32, None for a query by words only."""
        return _unpacked(self.vector)

    @property
    def query_copy_vector(self) -> Vector | None:
        """The copy vector as float32, None if there is none."""
        return _unpacked(self.copy_vector)

    @property
    def beyond(self) -> Beyond | None:
        """Where the last page ended; None on the first page."""
        if self.distance is None:
            return None
        return Beyond(self.distance, [file.hex() for file in cursors.pieces(self.shown, _FILE)])

    @property
    def lifted_files(self) -> frozenset[str]:
        """The first 16 hexadecimal digits of the SHA-256 of what is given before all others."""
        return frozenset(file.hex() for file in cursors.pieces(self.lifted, _FILE))

    @property
    def verified(self) -> Mapping[UUID, Verified]:
        """What was proved of images that earlier pages did not have, by id."""
        return {
            image_id: Verified(proof.match, proof.alignment)
            for proof in self.proofs
            if proof.alignment is not None and proof.match in ("copy", "scene")
            for image_id in proof.ids
        }

    def matches(self, images: Sequence[Fingerprint]) -> Mapping[str, Match]:
        """Return the matches of those of the images that were proved, by SHA-256."""
        known: dict[UUID, Match] = {
            image_id: proof.match for proof in self.proofs for image_id in proof.ids
        }
        return {image.sha256: known[image.id] for image in images if image.id in known}

    @property
    def ranking(self) -> Mapping[bytes, Sequence[Reason]]:
        """The images that are left of a merged ranking, best first; empty for any other query."""
        briefs = cursors.pieces(self.left, BRIEF_BYTES)
        return {i: _REASONS[found] for i, found in zip(briefs, self.found, strict=True)}

    def behind(self, similarity: float, files: Sequence[str]) -> "Asked":
        """Return the query after a page that ended there, with files of these SHA-256 near it."""
        distance = 1 - similarity - ROUNDING
        reach = self.distance if self.reach is None else self.reach
        # Several pages in a row may lie at one distance, or before what the first one had.
        if reach is None or distance > reach + 3 * ROUNDING:
            return self._from(distance, _packed(files))
        return self._from(distance, self.shown + _packed(files), reach=self.reach)

    def without(self, similarity: float, files: Sequence[str]) -> "Asked":
        """Return the query after a first page, of all these files, that ended there.

        It may have missed images, as the HNSW index does: they are still to come.
        """
        return self._from(-1.0, _packed(files), reach=1 - similarity)

    def _from(self, distance: float, shown: bytes, *, reach: float | None = None) -> "Asked":
        return self.model_copy(update={"distance": distance, "shown": shown, "reach": reach})

    def proving(self, proofs: Sequence[Proof], lifted: Sequence[str]) -> "Asked":
        """Return the query with what was proved; `lifted` are SHA-256."""
        files = b"".join(bytes.fromhex(file[:FILE_DIGITS]) for file in lifted)
        return self.model_copy(update={"proofs": proofs, "lifted": files})

    def leaving(self, ranking: Sequence[tuple[UUID, Sequence[Reason]]]) -> "Asked":
        """Return the query when these images are left of a merged ranking."""
        return self.model_copy(
            update={
                "left": b"".join(brief(image_id) for image_id, _ in ranking),
                "found": "".join(_LETTERS[tuple(reasons)] for _, reasons in ranking),
            }
        )

    def cursor(self) -> str | None:
        """Return the query as a URL-safe string, None if it would be too long to be read."""
        return cursors.of(self)

    @classmethod
    def read(cls, cursor: str, *, spaces: Spaces, sees_faces: bool = True) -> "Asked":
        """Return the query of a cursor; raises `InvalidRequest` unless these encoders made it."""
        try:
            asked = cls.model_validate_json(cursors.opened(cursor))
            _ = asked.beyond, asked.ranking, asked.lifted_files
        except (ValueError, KeyError, zlib.error, ValidationError) as exc:
            raise cursors.not_ours() from exc
        if not all(proof.is_finite for proof in asked.proofs):
            raise cursors.not_ours()
        if not is_storable(asked.words) or (asked.vector is None and not asked.words):
            raise cursors.not_ours()
        asked = asked.model_copy(update={"filters": checked(asked.filters, sees_faces=sees_faces)})
        given = ((asked.vector, spaces.of(asked.ranked_by)), (asked.copy_vector, spaces.copy))
        for vector, space in given:
            if vector is None:
                continue
            if len(vector) != 2 * space.encoder.dimensions:
                raise InvalidRequest("cursor: it belongs to another encoder; search again.")
            if not np.isfinite(np.frombuffer(vector, np.float16)).all():
                raise cursors.not_ours()
        return asked


def packed_vector(vector: Vector | None) -> bytes | None:
    """Return a vector as an `Asked` holds it."""
    return None if vector is None else vector.astype(np.float16).tobytes()


def _unpacked(vector: bytes | None) -> Vector | None:
    return None if vector is None else np.frombuffer(vector, np.float16).astype(np.float32)


def _packed(files: Sequence[str]) -> bytes:
    return b"".join(bytes.fromhex(file[:FILE_DIGITS]) for file in files)


def checked(filters: Filters, *, sees_faces: bool) -> Filters:
    """Return the filters of a cursor, checked as those of a request are; raises `InvalidRequest`.

    So it does if they are by faces, which the client may not see.
    """
    if filters.faces and not sees_faces:
        raise cursors.not_ours()
    given = {name: value for name, value in asdict(filters).items() if value not in (None, ())}
    if filters.box is not None:
        given["box"] = list(asdict(filters.box).values())
    ranges = {key: written_range(*limits) for key, limits in filters.ranges.items()}
    given["metadata"] = {**given.pop("metadata", {}), **ranges}
    given.pop("ranges", None)
    return parse(FilterRequest, given).filters
