"""Groups of duplicates, found by walking the index in the order of ids.

A group is given where its lowest id is. Over a whole walk, every image that has duplicates is in
one group, and none in two, also while others add and delete images: what is added is left to the
next walk, and a cursor remembers which images were shown, lest those that a deletion leaves of a
group make another one.
"""

import struct
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector
from app.search import cursors
from app.search.components import IMAGES_AT_ONCE, Components, Relation
from app.search.hits import Hit, Match
from app.search.pair_proofs import Proofs
from app.store.catalog import Catalog
from app.store.fingerprints import BRIEF_BYTES, Fingerprints, brief
from app.store.hashes import HashTable
from app.store.images import ImageRow
from app.store.vectors import VectorTable

# What one answer takes: images visited, neighbours asked for, pairs compared that were not before,
# images shown. An answer ends with the image that reaches one of them. Where images are crowded,
# the neighbours or the pairs are reached first; 1,000 pairs take one to six seconds.
MAX_IMAGES = 2000
MAX_NEIGHBOURS_ASKED = 600_000
MAX_COMPARED = 1000
MAX_SHOWN = 1000
# Of so many of them, an answer says how the first of their group lies on them.
MAX_ALIGNED = 100
# Images that a cursor remembers, the last ones shown: 7,500 characters, which fit in a URL.
MAX_REMEMBERED = 800


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = struct.Struct(">B16sq")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a walk among the images added `until` a time has come: to the id `after`.

    `shown` has the `brief` ids of images with greater ids in the groups given so far. Two of a
    group that is left over by a deletion would be another group, so groups of two are not in it.
    """

    until: datetime
    after: UUID | None = None
    shown: Sequence[bytes] = ()

    def moved(self, after: UUID, groups: Sequence[Sequence[UUID]]) -> "Position":
        """Return the position at `after`, where these groups were given, too."""
        new = [brief(i) for group in groups if len(group) > 2 for i in group]
        ahead = [given for given in (*self.shown, *new) if given >= brief(after)]
        return replace(self, after=after, shown=ahead[-MAX_REMEMBERED:])

    def cursor(self) -> str:
        """Return the position as a URL-safe string."""
        after = (self.after or UUID(int=0)).bytes
        until = (self.until - _EPOCH) // timedelta(microseconds=1)
        return cursors.written(_HEAD.pack(_VERSION, after, until) + b"".join(self.shown))

    @classmethod
    def read(cls, cursor: str) -> "Position":
        """Return the position of a cursor; raises `InvalidRequest`."""
        try:
            packed = cursors.read(cursor)
            version, after, until = _HEAD.unpack(packed[: _HEAD.size])
            shown = cursors.pieces(packed[_HEAD.size :], BRIEF_BYTES)
            time = _EPOCH + timedelta(microseconds=until)
        except (ValueError, OverflowError, struct.error) as exc:
            raise cursors.not_ours() from exc
        if version != _VERSION:
            raise cursors.not_ours()
        return cls(time, UUID(bytes=after), shown)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of duplicates, each beginning with the lowest id.

    `next` is the cursor of the next page, None at the end of the index.
    """

    groups: list[list[Hit]]
    next: str | None


class DuplicateFinder:
    """Finds images with the same bytes, and copies: near by vectors or hashes, and proved."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fingerprints: Fingerprints,
        vectors: VectorTable,
        hashes: HashTable,
        proofs: Proofs,
    ) -> None:
        self._hashes = hashes
        self._proofs = proofs
        self._catalog = catalog
        self._fingerprints = fingerprints
        self._vectors = vectors

    async def find(
        self, *, cursor: str | None, limit: int, min_similarity: float, max_bits: int
    ) -> Groups:
        """Return up to `limit` groups; raises `InvalidRequest` for a cursor that is not one.

        Duplicates have the same bytes, or are proved to be copies. Compared are images with a
        cosine similarity of at least `min_similarity`, or hashes that are as near in any of eight
        orientations, and hashes that differ in at most `max_bits` bits; a group has the duplicates
        of its images, too. An answer may have fewer
        groups than `limit`, even none, although `next` is set.
        """
        position = await self._position(cursor)
        components = Components(
            self._fingerprints,
            self._vectors,
            self._hashes,
            self._proofs,
            Relation(min_similarity, max_bits),
            until=position.until,
        )
        seen = frozenset(position.shown)
        groups: list[list[UUID]] = []
        after, visited = position.after, 0
        while images := await self._fingerprints.walk(after=after, limit=IMAGES_AT_ONCE):
            known = [image.id for image in images if image.indexed_at <= position.until]
            await components.read(known)
            for after in known:
                group = await _led_by(after, components, seen)
                groups += [group] if group else []
                if _is_full(groups, limit) or _is_enough(components):
                    return Groups(await self._hits(groups), position.moved(after, groups).cursor())
            after = images[-1].id
            visited += len(images)
            if visited >= MAX_IMAGES:
                return Groups(await self._hits(groups), position.moved(after, groups).cursor())
        return Groups(await self._hits(groups), None)

    async def _position(self, cursor: str | None) -> Position:
        after = None
        if cursor is not None:
            after = _older(cursor)
            if after is None:
                return Position.read(cursor)
        # The database's time: the clock here may be another.
        return Position(await self._fingerprints.newest() or datetime.now(UTC), after)

    async def _hits(self, groups: Sequence[Sequence[UUID]]) -> list[list[Hit]]:
        """Return the groups with what relates images to the first, the most similar first.

        Images deleted since are left out, and so are groups of which one image is left.
        """
        ids = [image_id for group in groups for image_id in group]
        images = await self._catalog.find_all(ids)
        vectors = await self._vectors.fetch(ids)
        found = [[images[i] for i in group if i in images] for group in groups]
        shown = [_group(images, vectors) for images in found if len(images) > 1]
        pairs = [(g[0].image.id, h.image.id) for g in shown for h in g[1:] if h.match == "copy"]
        aligned = await self._proofs.alignments(pairs[:MAX_ALIGNED])
        return [
            [replace(hit, alignment=aligned.get((g[0].image.id, hit.image.id))) for hit in g]
            for g in shown
        ]


async def _led_by(image_id: UUID, components: Components, seen: Set[bytes]) -> list[UUID]:
    """Return the group whose lowest id this is, without what was seen; empty if there is none."""
    if brief(image_id) in seen:
        return []
    group = await components.group_of(image_id)
    if group[0] != image_id:
        return []
    left = [member for member in group if brief(member) not in seen]
    return left if len(left) > 1 else []


def _older(cursor: str) -> UUID | None:
    """Return the id that is the cursor of a version before this one, None for any other."""
    try:
        return UUID(cursor)
    except ValueError:
        return None


def _is_full(groups: Sequence[Sequence[UUID]], limit: int) -> bool:
    return len(groups) >= limit or sum(map(len, groups)) >= MAX_SHOWN


def _is_enough(components: Components) -> bool:
    return (
        components.neighbours_asked >= MAX_NEIGHBOURS_ASKED
        or components.pairs_compared >= MAX_COMPARED
    )


def _group(images: Sequence[ImageRow], vectors: dict[UUID, Vector]) -> list[Hit]:
    first, *others = images
    hits = [_compared(first, other, vectors) for other in others]
    hits.sort(key=lambda hit: (-2.0 if hit.similarity is None else -hit.similarity, hit.image.id))
    return [Hit(first, 1.0, None), *hits]


def _compared(first: ImageRow, other: ImageRow, vectors: dict[UUID, Vector]) -> Hit:
    """Return an image as a hit of a search by the first one of its group."""
    similarity = None
    if first.id in vectors and other.id in vectors:
        similarity = _cosine(vectors[first.id], vectors[other.id])
    # Whatever is in a group is proved.
    match: Match = "exact" if other.sha256 == first.sha256 else "copy"
    return Hit(other, similarity, match)


def _cosine(one: Vector, other: Vector) -> float:
    cosine = float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))
    return max(-1.0, min(1.0, cosine))
