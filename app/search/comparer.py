"""Compares two images: how similar they are, what is proved, and how one lies on the other."""

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.encoding.encoder import Encoder, Vector
from app.indexing.coalescer import gather
from app.pictures.decoding import Decoder, Picture
from app.pictures.registration import resized
from app.pictures.views import View
from app.problems import NotFound
from app.search.hits import Match
from app.search.query import Query, Term
from app.search.searcher import Searcher
from app.search.verification import Alignment, verify
from app.store.catalog import Catalog
from app.store.images import ImageRow
from app.store.uploads import Uploads
from app.store.vectors import VectorTable


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

    `alignment` says how `a` lies on `b`; None if nothing is proved.
    """

    a: ComparedImage
    b: ComparedImage
    similarity: float
    match: Match
    alignment: Alignment | None

    @property
    def too_plain(self) -> bool:
        """Whether one of the two is too plain for anything but its bytes to prove a match."""
        return self.a.too_plain or self.b.too_plain


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    image: ComparedImage
    view: View
    vector: Vector


class Comparer:
    """Compares images, each comparison in the place of a search."""

    def __init__(
        self,
        *,
        searcher: Searcher,
        catalog: Catalog,
        vectors: VectorTable,
        encoder: Encoder,
        decoder: Decoder,
        uploads: Uploads,
    ) -> None:
        self._searcher = searcher
        self._catalog = catalog
        self._vectors = vectors
        self._encoder = encoder
        self._decoder = decoder
        self._uploads = uploads

    async def compare(self, a: Term, b: Term) -> Verdict:
        """Compare two images, which are terms without texts.

        Raises `TooBusy`, `NotFound`, and what fetching and decoding raise.
        """
        return await self._searcher.in_place(Query([a, b]), self._compare)

    async def _compare(self, query: Query) -> Verdict:
        a, b = await gather([self._look(term) for term in query.terms])
        similarity = min(1.0, max(-1.0, float(a.vector @ b.vector)))
        given = partial(Verdict, a.image, b.image, similarity)
        if a.image.sha256 == b.image.sha256:
            return given("exact", _same(a.image, b.image))
        work = partial(verify, a.view, b.view)
        proved = await asyncio.wrap_future(self._decoder.pool.submit(work, first=True))
        return given(proved.match, proved.alignment) if proved else given("similar", None)

    async def _look(self, term: Term) -> _Seen:
        if term.image is not None:
            return await self._look_at_indexed(term)
        if term.upload is not None:
            upload = await self._uploads.find(term.upload)
            return await self._look_at(upload.data, sha256=upload.sha256)
        return await self._look_at(term.data or b"")

    async def _look_at_indexed(self, term: Term) -> _Seen:
        """Look at what the index has of an image."""
        assert term.image is not None  # noqa: S101
        image, found = (
            await self._catalog.find(term.image),
            await self._catalog.thumbnail(term.image),
        )
        if image is None or found is None:
            raise NotFound(f"There is no image {term.image} in the index.")
        vector = (await self._vectors.fetch([image.id])).get(image.id)
        size = image.width, image.height
        seen = await self._look_at(found[1], sha256=image.sha256, size=size, vector=vector)
        view = replace(seen.view, too_plain=image.too_plain)
        compared = replace(seen.image, too_plain=image.too_plain, row=image)
        return replace(seen, image=compared, view=view)

    async def _look_at(
        self,
        data: bytes,
        *,
        sha256: str | None = None,
        size: tuple[int, int] | None = None,
        vector: Vector | None = None,
    ) -> _Seen:
        """Decode an image, and embed it unless its vector is given.

        `size` and `sha256` are those of the original, if that is not the data.
        """

        def seen(picture: Picture) -> tuple[View, Any]:
            view = View.of(picture.image, size=size or (picture.width, picture.height))
            return view, None if vector is not None else self._encoder.prepare(picture)

        facts, (view, prepared) = await self._decoder.decode_and(data, seen, first=True)
        if vector is None:
            vector = await self._encoder.embed_prepared(prepared)
        # As the index would call it.
        view = replace(view, too_plain=facts.too_plain)
        image = ComparedImage(
            view.width, view.height, sha256 or facts.sha256, facts.thumbnail, facts.too_plain
        )
        return _Seen(image, view, vector)


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
