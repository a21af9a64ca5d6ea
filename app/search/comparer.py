"""Compares two images: how similar they are, what is proved, and how one lies on the other."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from app.encoding.encoder import Vector
from app.indexing.coalescer import gather
from app.indexing.keypoint_maker import keypoints_of
from app.pictures.decoding import Decoder, Facts
from app.pictures.registration import resized
from app.pictures.views import View
from app.problems import NotFound, StorageUnavailable
from app.search.hits import Match
from app.search.query import Query, Term
from app.search.searcher import Searcher
from app.search.stored_views import view_of
from app.search.verification import Alignment, Verified, verify
from app.search.verifier import Subject
from app.store.catalog import Catalog
from app.store.images import ImageRow
from app.store.keypoints import KeypointTable
from app.store.spaces import Space, Spaces, embed, prepare
from app.store.uploads import Uploads


@dataclass(frozen=True, slots=True, eq=False)
class ComparedImage:
    """One of two images that are compared.

    `width` and `height` are those of the upright image, `thumbnail` is a JPEG of it. `row` is that
    of the index, for an image that was named by its id.
    """

    width: int
    height: int
    sha256: str
    thumbnail: bytes
    too_plain: bool
    row: ImageRow | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The (width, height)."""
        return self.width, self.height


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known of two images: their cosine similarity, -1 to 1, and what is proved.

    `copy_similarity` is that of their copy vectors, None where one vector serves for both.
    `alignment` says how `a` lies on `b`; None if nothing is proved.
    """

    a: ComparedImage
    b: ComparedImage
    similarity: float
    copy_similarity: float | None
    match: Match
    alignment: Alignment | None

    @property
    def too_plain(self) -> bool:
        """Whether one of the two is too plain for anything but its bytes to prove a match."""
        return self.a.too_plain or self.b.too_plain


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """An image with its vectors; `keypoints` are those that are stored, None without any."""

    image: ComparedImage
    subject: Subject
    vectors: Mapping[Space, Vector]
    keypoints: bytes | None = None

    def view(self) -> View | None:
        keypoints = self.keypoints or keypoints_of(self.image.thumbnail)
        return view_of(self.subject, self.image.thumbnail, keypoints)


class Comparer:
    """Compares images, each comparison in the place of a search.

    It sees of them what a search sees, so that both answer the same.
    """

    def __init__(
        self,
        *,
        searcher: Searcher,
        catalog: Catalog,
        keypoints: KeypointTable,
        spaces: Spaces,
        decoder: Decoder,
        uploads: Uploads,
    ) -> None:
        self._searcher = searcher
        self._catalog = catalog
        self._keypoints = keypoints
        self._spaces = spaces
        self._decoder = decoder
        self._uploads = uploads

    async def compare(self, a: Term, b: Term) -> Verdict:
        """Compare two images, which are terms without texts.

        Raises `TooBusy`, `NotFound`, and what fetching and decoding raise.
        """
        return await self._searcher.in_place(Query([a, b]), self._compare)

    async def _compare(self, query: Query) -> Verdict:
        a, b = await gather([self._look(term) for term in query.terms])
        cosines = {space: _cosine(a.vectors[space], b.vectors[space]) for space in self._spaces.all}
        copy_similarity = None if self._spaces.are_one else cosines[self._spaces.copy]
        similarity = cosines[self._spaces.semantic]
        given = partial(Verdict, a.image, b.image, similarity, copy_similarity)
        if a.image.sha256 == b.image.sha256:
            return given("exact", _same(a.image, b.image))
        work = partial(_verified, a, b)
        proved = await asyncio.wrap_future(self._decoder.pool.submit(work, first=True))
        return given(proved.match, proved.alignment) if proved else given("similar", None)

    async def _look(self, term: Term) -> _Seen:
        if term.image is not None:
            return await self._indexed(term.image)
        if term.upload is not None:
            upload = await self._uploads.find(term.upload)
            return await self._sent(upload.data, sha256=upload.sha256)
        return await self._sent(term.data or b"")

    async def _indexed(self, image_id: UUID) -> _Seen:
        """Look at what the index has of an image."""
        row = await self._catalog.find(image_id)
        stored = (await self._keypoints.find([image_id])).get(image_id)
        if row is None:
            raise NotFound(f"There is no image {image_id} in the index.")
        if stored is None:
            # Or it was deleted just now.
            raise StorageUnavailable(f"The thumbnail of image {image_id} cannot be read.")
        vectors: dict[Space, Vector] = {}
        for space in self._spaces.all:
            found = await space.vectors.fetch([image_id])
            if image_id in found:
                vectors[space] = found[image_id]
        if missing := [space for space in self._spaces.all if space not in vectors]:
            _, made = await self._embedded(stored.thumbnail, missing)
            vectors |= made
        image = ComparedImage(
            row.width, row.height, row.sha256, stored.thumbnail, row.too_plain, row
        )
        return _Seen(image, row, vectors, stored.keypoints)

    async def _sent(self, data: bytes, *, sha256: str | None = None) -> _Seen:
        """Look at an image file; `sha256` is that of the original, if it is another file."""
        facts, vectors = await self._embedded(data, self._spaces.all)
        image = ComparedImage(
            facts.width,
            facts.height,
            sha256 or facts.sha256,
            facts.thumbnail,
            facts.too_plain,
        )
        return _Seen(image, facts, vectors)

    async def _embedded(
        self, data: bytes, spaces: Sequence[Space]
    ) -> tuple[Facts, dict[Space, Vector]]:
        work = partial(prepare, spaces)
        facts, prepared = await self._decoder.decode_and(data, work, first=True)
        return facts, await embed(prepared)


def _cosine(one: Vector, other: Vector) -> float:
    return min(1.0, max(-1.0, float(one @ other)))


def _verified(a: _Seen, b: _Seen) -> Verified | None:
    if a.image.too_plain or b.image.too_plain:
        return None
    query, image = a.view(), b.view()
    return verify(query, image) if query and image else None


def _same(a: ComparedImage, b: ComparedImage) -> Alignment:
    """Return the alignment of a file with itself, of which an upload may be kept smaller."""
    (m, n, o), (p, q, r) = resized(a.size, b.size).tolist()
    return Alignment(
        query_overlap=1.0,
        image_overlap=1.0,
        matrix=((m, n, o), (p, q, r)),
        inliers=0,
        mirrored=False,
        rotation=0.0,
        scale=b.width / a.width,
    )
