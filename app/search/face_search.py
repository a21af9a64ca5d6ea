"""Search by a face: images that have a face like it, with the face that is."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.faces.face import LEAST_FOR_VECTOR, SAME_FACE, Face, Finder
from app.pictures.decoding import Decoder
from app.problems import InvalidRequest, NotFound
from app.search import cursors
from app.search.asked import checked
from app.search.face_requests import FaceQuery, WantedFace
from app.search.hits import FaceMatch, Hit
from app.search.pages import Results
from app.search.places import Places, limited
from app.search.resolver import Clock
from app.store.beside import Beside
from app.store.catalog import Catalog
from app.store.faces import FaceTable
from app.store.filters import NO_FILTERS, Filters
from app.store.near_faces import NearFace, NearFaces, Shown
from app.store.uploads import Uploads

# Concurrent searches by faces.
MOST_SEARCHES = 16
# Uploads whose faces are remembered, in memory only.
MOST_SEEN = 16
# The cursor of another query begins otherwise, as all that zlib packs.
_PREFIX = "face_"
NO_VECTORS = "face: this server keeps no vectors of faces (FACES=vectors)."


class _Asked(BaseModel):
    """A search by a face with what its pages have shown so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # As float16, which the database keeps too.
    vector: Annotated[str, Field(max_length=600)]
    lowest: Annotated[float, Field(ge=-1, le=1)]
    filters: Filters = NO_FILTERS
    without: UUID | None = None
    images: Sequence[UUID] = ()
    distance: Annotated[float, Field(ge=-1, le=3)] | None = None
    image_id: UUID | None = None

    @property
    def shown(self) -> Shown:
        """What the pages before had."""
        if (self.distance is None) != (self.image_id is None):
            raise ValueError("half of a position")
        return Shown(self.images, self.distance, self.image_id)

    def cursor(self) -> str | None:
        """Return the search as a URL-safe string, None if it would be too long to be read."""
        return cursors.of(self, prefix=_PREFIX)

    @classmethod
    def read(cls, cursor: str) -> "_Asked":
        """Return the search of a cursor; raises `InvalidRequest`."""
        try:
            asked = cls.model_validate_json(cursors.opened(cursor, prefix=_PREFIX))
            _ = _read(asked.vector), asked.shown
        except (ValueError, zlib.error, ValidationError) as exc:
            raise cursors.not_ours() from exc
        # Whoever searches by a face may see faces.
        return asked.model_copy(update={"filters": checked(asked.filters, sees_faces=True)})


class FaceSearcher:
    """Answers up to 16 concurrent searches by faces; further ones raise `TooBusy`."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        faces: FaceTable,
        near: NearFaces,
        uploads: Uploads,
        decoder: Decoder,
        finder: Finder | None,
        timeout_s: float,
    ) -> None:
        self._catalog = catalog
        self._faces = faces
        self._near = near
        self._uploads = uploads
        self._decoder = decoder
        self._finder = finder if finder is not None and finder.level == "vectors" else None
        self._places = Places(MOST_SEARCHES)
        self._timeout_s = timeout_s
        self._seen: dict[UUID, Sequence[Face]] = {}

    @property
    def is_on(self) -> bool:
        """Whether there are vectors of faces to search by."""
        return self._finder is not None

    async def search(self, query: FaceQuery) -> Results:
        """Return the first page of images with a face like this, the most similar first.

        Raises `InvalidRequest` if there is no such face or no vector of it, `NotFound` if there is
        no such image, and `TooBusy`.
        """
        if self._finder is None:
            raise InvalidRequest(NO_VECTORS)
        with self._places.taken():
            async with limited(self._deadline(), self._timeout_s):
                clock = Clock()
                vector = _vector_of(await self._face(query.face, self._finder))
                lowest = SAME_FACE if query.min_similarity is None else query.min_similarity
                asked = _Asked(
                    vector=_written(vector),
                    lowest=lowest,
                    filters=query.filters,
                    without=query.face.image,
                )
                clock.lap("decode")
                return await self._page(asked, query.limit, clock, query.beside, is_first=True)

    async def faces_of_upload(self, upload: UUID) -> Sequence[Face]:
        """Return the faces in an uploaded image, from left to right, to choose one of them.

        Raises `NotFound` if there is no such upload, and `TooBusy`.
        """
        if self._finder is None:
            raise InvalidRequest(NO_VECTORS)
        with self._places.taken():
            async with limited(self._deadline(), self._timeout_s):
                return await self._of_upload(upload, self._finder)

    async def next_page(
        self, cursor: str, *, limit: int, beside: frozenset[Beside] = frozenset()
    ) -> Results:
        """Return the page after the one that gave this cursor; raises `InvalidRequest`."""
        if self._finder is None:
            raise InvalidRequest(NO_VECTORS)
        with self._places.taken():
            async with limited(self._deadline(), self._timeout_s):
                return await self._page(_Asked.read(cursor), limit, Clock(), beside, is_first=False)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    async def _page(
        self, asked: _Asked, limit: int, clock: Clock, beside: frozenset[Beside], *, is_first: bool
    ) -> Results:
        found = await self._near.find(
            _read(asked.vector),
            within=1 - asked.lowest,
            limit=limit + 1,
            filters=asked.filters,
            without=asked.without,
            shown=None if is_first else asked.shown,
        )
        page = found[:limit]
        images = await self._catalog.find_all([face.image_id for face in page], beside=beside)
        clock.lap("search")
        more = len(found) > limit
        cursor = _following(asked, page, is_first=is_first).cursor() if more else None
        return Results(
            [
                Hit(images[f.image_id], f.similarity, None, face=_match(f))
                for f in page
                if f.image_id in images
            ],
            [],
            clock.timings(),
            asked.lowest,
            cursor,
            [cursors.TOO_LONG] if more and cursor is None else [],
        )

    async def _face(self, wanted: WantedFace, finder: Finder) -> Face:
        if wanted.image is not None:
            found = (await self._faces.of([wanted.image])).get(wanted.image, [])
            if not found and await self._catalog.find(wanted.image) is None:
                raise NotFound("face: there is no such image in the index.")
            return _chosen([stored.face for stored in found], wanted)
        data = wanted.data
        if wanted.upload is not None:
            return _chosen(await self._of_upload(wanted.upload, finder), wanted)
        if data is None:
            raise InvalidRequest("face: say whose, by the `id` of an image, or send an image.")
        return _chosen(await self._looked(data, finder), wanted)

    async def _of_upload(self, upload: UUID, finder: Finder) -> Sequence[Face]:
        """Return the faces of an upload, which is looked at once by whoever chooses among them."""
        data = (await self._uploads.find(upload)).data
        faces = self._seen.get(upload)
        if faces is None:
            # Others may fill the memory meanwhile.
            self._seen[upload] = faces = await self._looked(data, finder)
            while len(self._seen) > MOST_SEEN:
                del self._seen[next(iter(self._seen))]
        return faces

    async def _looked(self, data: bytes, finder: Finder) -> Sequence[Face]:
        _, looked = await self._decoder.decode_and(
            data, lambda picture: finder.look(picture.image), first=True
        )
        if looked is None:
            raise InvalidRequest(NO_VECTORS)
        return looked.faces


def is_of_faces(cursor: str) -> bool:
    """Return whether a cursor is that of a search by a face."""
    return cursor.startswith(_PREFIX)


def _following(asked: _Asked, page: Sequence[NearFace], *, is_first: bool) -> _Asked:
    if is_first:
        return asked.model_copy(update={"images": [face.image_id for face in page]})
    return asked.model_copy(update={"distance": page[-1].distance, "image_id": page[-1].image_id})


def _chosen(faces: Sequence[Face], wanted: WantedFace) -> Face:
    """Return the face that is asked for; raises `InvalidRequest`."""
    if wanted.box is not None:
        box = wanted.box
        best = max(faces, key=lambda face: face.box.overlap(box), default=None)
        if best is None or not best.box.overlap(box):
            raise InvalidRequest("face: there is no face in this box.")
        return best
    if not faces:
        raise InvalidRequest("face: no face was found in this image.")
    if wanted.order is None and len(faces) > 1:
        raise InvalidRequest(
            f"face: the image has {len(faces)} faces; choose one by `order` or `box`."
        )
    order = wanted.order or 0
    if order >= len(faces):
        raise InvalidRequest(f"face: the image has {len(faces)} faces, and no face {order}.")
    return faces[order]


def _vector_of(face: Face) -> NDArray[np.float32]:
    if face.vector is None:
        raise InvalidRequest(
            f"face: it has no vector, as it is smaller than {LEAST_FOR_VECTOR} pixels, or was "
            "looked at without FACES=vectors."
        )
    return face.vector


def _match(face: NearFace) -> FaceMatch:
    return FaceMatch(face.order, face.box, face.similarity)


def _written(vector: NDArray[np.float32]) -> str:
    return cursors.written(vector.astype(np.float16).tobytes())


def _read(text: str) -> NDArray[np.float32]:
    vector = np.frombuffer(cursors.read(text), np.float16).astype(np.float32)
    if vector.shape != (128,) or not np.isfinite(vector).all() or not vector.any():
        raise ValueError("not a vector of a face")
    return vector
