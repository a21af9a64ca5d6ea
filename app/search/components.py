"""Groups of duplicates as the connected components of a graph, read as far as it is needed.

Two images are linked if each finds the other and it is proved that they are duplicates: their files
have the same bytes, or one is a copy of the other (`pair_proofs.py`). Compared are those whose
vectors are near, or whose hashes are in one of eight orientations, unless one is too plain to be
told from others. Of mirrored and turned copies, vectors may be far apart, and hashes are not.
A link that the vector index finds from one side only does not count, so that the graph is the same
from wherever it is entered, and its components share no image.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from app.pictures.decoding import hamming
from app.search.pair_proofs import Proofs
from app.store.fingerprints import Fingerprint, Fingerprints
from app.store.hashes import HashTable, Near
from app.store.vectors import VectorTable

# Images per query.
IMAGES_AT_ONCE = 100
# The nearest neighbours of an image that are asked for, and those if all of these are duplicates.
FEW_NEIGHBOURS = 50
MAX_NEIGHBOURS = 500
# How many images ask for that many neighbours at once: 5,000 rows.
CROWDED_AT_ONCE = 10
# The most images of a group.
MAX_GROUP = 500
# How often a relation is made stricter before only the same bytes count.
TIGHTENINGS = 2

# Hashes that differ in so many bits are compared at the least similarity that is asked for by
# default, and those that do not differ at one that only the same bytes exceed. Of 400 photos and
# 248 of clothes, one pair of strangers in 100,000 differs in ten bits or less; of copies with
# noise, as JPEGs of quality 15, or 100 px wide, all do, and 0.94 of darker and brighter ones.
MAX_HASH_BITS = 10
SIMILAR_HASHES, SAME_HASHES = 0.85, 0.99

Link: TypeAlias = tuple[float, int]
"""How similar two images are, infinite for the same bytes, and the bits in which hashes differ.

Similar by the cosine of their vectors, or by their hashes in the orientation in which they are
nearest, by which they are more alike.
"""

SAME_BYTES: Link = (math.inf, 0)


@dataclass(frozen=True, slots=True)
class Relation:
    """Which images are compared: those as similar, and with hashes as near, at the least."""

    min_similarity: float
    max_bits: int

    def holds(self, link: Link) -> bool:
        """Return whether images are near enough."""
        similarity, bits = link
        return similarity >= self.min_similarity and bits <= self.max_bits


def tightened(relation: Relation) -> list[Relation]:
    """Return a relation, then with half the distances; the last is for the same bytes only."""
    relations = [relation]
    for _ in range(TIGHTENINGS):
        last = relations[-1]
        relations.append(Relation(1 - (1 - last.min_similarity) / 2, last.max_bits // 2))
    return list(dict.fromkeys([*relations, Relation(*SAME_BYTES)]))


class Components:
    """The groups of the images added `until` a time.

    A component of more than 500 images is split: the relation is made stricter, step by step, for
    all of its images, until their components are small enough. A file that has more images than
    that has a group of its own, of those with the lowest ids.
    """

    def __init__(
        self,
        fingerprints: Fingerprints,
        vectors: VectorTable,
        hashes: HashTable,
        proofs: Proofs,
        relation: Relation,
        *,
        until: datetime,
    ) -> None:
        self._fingerprints = fingerprints
        self._vectors = vectors
        self._hashes = hashes
        self._proofs = proofs
        self._until = until
        self._relations = tightened(relation)
        self._images: dict[UUID, Fingerprint] = {}
        self._files: dict[str, list[Fingerprint]] = {}
        self._links: dict[UUID, dict[UUID, Link]] = {}
        self._proved: dict[frozenset[UUID], bool] = {}
        self.neighbours_asked = self.pairs_compared = 0
        # The component of each image, per relation; None for one that is too large.
        self._found: list[dict[UUID, list[UUID] | None]] = [{} for _ in self._relations]

    async def read(self, ids: Collection[UUID]) -> None:
        """Read the links of images, and of as many that they are linked to as one query takes."""
        await self._read(ids)
        linked = dict.fromkeys(other for image_id in ids for other in self._links[image_id])
        await self._read(list(linked)[:IMAGES_AT_ONCE])

    async def group_of(self, image_id: UUID) -> list[UUID]:
        """Return the group of an image in the order of ids; it may be alone in it."""
        for step in range(len(self._relations)):
            component = await self._component(image_id, step)
            if component is not None:
                return component
        image = self._images[image_id]
        # Someone may have said that they are no duplicates, although they have the same bytes.
        [are_duplicates] = (await self._proofs.prove([(image, image)])).are_duplicates
        same = self._files[image.sha256][:MAX_GROUP] if are_duplicates else []
        ids = [image.id for image in same]
        return ids if image_id in ids else [image_id]

    async def _component(self, image_id: UUID, step: int) -> list[UUID] | None:
        """Return the component of an image in the order of ids, None if it is too large."""
        found = self._found[step]
        if image_id in found:
            return found[image_id]
        members, waiting, is_large = {image_id}, [image_id], False
        while waiting and not is_large:
            asking, waiting = waiting[:IMAGES_AT_ONCE], waiting[IMAGES_AT_ONCE:]
            await self._read(asking)
            others = self._linked(asking, step) - members
            for some in _chunks(list(others), IMAGES_AT_ONCE):
                await self._read(some)
                joining = await self._joining(some, asking, step)
                members.update(joining)
                waiting += joining
                is_large = len(members) > MAX_GROUP or any(
                    i in found and found[i] is None for i in joining
                )
                if is_large:
                    break
        component = None if is_large else sorted(members)
        found.update(dict.fromkeys(members, component))
        return component

    def _linked(self, ids: Iterable[UUID], step: int) -> set[UUID]:
        holds = self._relations[step].holds
        return {other for i in ids for other, link in self._links[i].items() if holds(link)}

    async def _joining(
        self, some: Collection[UUID], members: Sequence[UUID], step: int
    ) -> list[UUID]:
        """Return those images of which a link to one of these members is proved.

        Each is compared with the nearest of them first, until one proves it.
        """
        waiting: dict[UUID, list[UUID]] = {}
        for image_id in some:
            links = self._links[image_id]
            near = [o for o in members if self._joined(image_id, o, step)]
            waiting[image_id] = sorted(near, key=lambda o: (links[o][0], -o.int))
        joining: list[UUID] = []
        while waiting := {i: others for i, others in waiting.items() if others}:
            pairs = [(image_id, others.pop()) for image_id, others in waiting.items()]
            await self._prove(pairs)
            proved = [i for i, other in pairs if self._proved[frozenset((i, other))]]
            joining += proved
            for image_id in proved:
                del waiting[image_id]
        return joining

    async def _prove(self, pairs: Sequence[tuple[UUID, UUID]]) -> None:
        new = [pair for pair in pairs if frozenset(pair) not in self._proved]
        if not new:
            return
        found = await self._proofs.prove([(self._images[a], self._images[b]) for a, b in new])
        self.pairs_compared += found.compared
        for pair, are_duplicates in zip(new, found.are_duplicates, strict=True):
            self._proved[frozenset(pair)] = are_duplicates

    def _joined(self, one: UUID, other: UUID, step: int) -> bool:
        """Return whether each of two images finds the other."""
        there, back = self._links[one].get(other), self._links[other].get(one)
        holds = self._relations[step].holds
        return there is not None and back is not None and holds(there) and holds(back)

    async def _read(self, ids: Iterable[UUID]) -> None:
        for some in _chunks(sorted(set(ids) - self._links.keys()), IMAGES_AT_ONCE):
            await self._identify(some)
            images = [self._images[i] for i in some if i in self._images]
            asking = [image.id for image in images if self._asks(image)]
            near = await self._near(asking) if asking else {}
            turned = await self._turned(asking)
            others = {other for pairs in (*near.values(), *turned.values()) for other, _ in pairs}
            await self._identify(others)
            self._links |= {image_id: {} for image_id in some}
            for image in images:
                found = near.get(image.id, []), turned.get(image.id, [])
                self._links[image.id] = self._links_of(image, *found)

    def _asks(self, image: Fingerprint) -> bool:
        """Return whether to ask for the neighbours of an image.

        Of many images of one file, the one with the lowest id asks for all; a file with too many
        has a group of its own, and what is too plain only the same bytes.
        """
        if image.too_plain or len(self._files[image.sha256]) > MAX_GROUP:
            return False
        return self._asker(image) == image

    def _asker(self, image: Fingerprint) -> Fingerprint:
        same = self._files[image.sha256]
        return same[0] if len(same) > FEW_NEIGHBOURS else image

    async def _near(self, ids: Sequence[UUID]) -> dict[UUID, list[tuple[UUID, float]]]:
        """Return the neighbours of images that are similar enough, and how similar they are."""
        lowest = self._relations[0].min_similarity
        near = await self._vectors.neighbours(ids, limit=FEW_NEIGHBOURS, min_similarity=lowest)
        self.neighbours_asked += FEW_NEIGHBOURS * len(ids)
        crowded = [i for i, pairs in near.items() if len(pairs) >= FEW_NEIGHBOURS]
        self.neighbours_asked += MAX_NEIGHBOURS * len(crowded)
        for some in _chunks(crowded, CROWDED_AT_ONCE):
            near |= await self._vectors.neighbours(
                some, limit=MAX_NEIGHBOURS, min_similarity=lowest
            )
        return near

    async def _turned(self, ids: Sequence[UUID]) -> dict[UUID, list[Near]]:
        """Return the images whose hashes are near in one of eight orientations."""
        hashes = {i: value for i in ids if (value := self._images[i].phash) is not None}
        found: dict[UUID, list[Near]] = {}
        for some in _chunks(list(hashes), IMAGES_AT_ONCE):
            found |= await self._hashes.near(
                {i: hashes[i] for i in some}, max_bits=MAX_HASH_BITS, limit=MAX_NEIGHBOURS
            )
        self.neighbours_asked += sum(map(len, found.values()))
        return found

    async def _identify(self, ids: Iterable[UUID]) -> None:
        """Read the fingerprints of images, and those of the same files."""
        found = await self._fingerprints.find([i for i in ids if i not in self._images])
        new = {i: image for i, image in found.items() if image.indexed_at <= self._until}
        hashes = sorted({image.sha256 for image in new.values()} - self._files.keys())
        # One more than a group may have, so that a file with too many is seen to be too large.
        files = await self._fingerprints.of_files(hashes, until=self._until, limit=MAX_GROUP + 1)
        self._images |= new | {image.id: image for images in files.values() for image in images}
        self._files |= files
        for image in new.values():
            # Added, or removed, between the two queries.
            self._files.setdefault(image.sha256, [image])
        for images in files.values():
            if len(images) > MAX_GROUP:
                large = dict.fromkeys(image.id for image in images)
                for found_so_far in self._found:
                    found_so_far.update(large)

    def _links_of(
        self, image: Fingerprint, near: Sequence[tuple[UUID, float]], turned: Sequence[Near]
    ) -> dict[UUID, Link]:
        same = self._files[image.sha256]
        if len(same) > MAX_GROUP:
            return {}
        links: dict[UUID, Link] = {}
        bits_of = dict(turned)
        for other_id, cosine in [*near, *((other_id, -1.0) for other_id in bits_of)]:
            other = self._images.get(other_id)
            if other is None or image.too_plain or other.too_plain:
                continue
            link = cosine, hamming(image.dhash, other.dhash)
            if other_id in bits_of:
                bits = bits_of[other_id]
                link = max(cosine, _similarity(bits)), min(link[1], bits)
            if self._relations[0].holds(link):
                # Of several images of a file, the most similar counts.
                asker = self._asker(other).id
                links[asker] = max(links.get(asker, link), link)
        if same[0] == image:
            links |= {other.id: SAME_BYTES for other in same}
        else:
            links[same[0].id] = SAME_BYTES
        links.pop(image.id, None)
        return links


def _similarity(bits: int) -> float:
    """Return what counts as similar as hashes that differ in so many bits."""
    return SIMILAR_HASHES + (1 - bits / MAX_HASH_BITS) * (SAME_HASHES - SIMILAR_HASHES)


def _chunks(ids: Sequence[UUID], size: int) -> list[Sequence[UUID]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
