"""From a query that names pictures and texts to the vector and the words to look for."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from app.catalog import Catalog, Image
from app.cursors import Asked
from app.download import Fetcher
from app.encoder import Encoder, Vector
from app.indexing import gather
from app.pictures import Decoder, Picture
from app.problems import InvalidRequest, NoPicture, NotFound
from app.query import Marked, Query, Term, combine, rocchio
from app.store import ImageVectorStore
from app.timing import Clock
from app.uploads import Uploads


@dataclass(frozen=True, slots=True)
class _Part:
    """A term of a query, embedded; of a picture, its hashes, and itself if it was decoded."""

    vector: Vector
    weight: float
    sha256: str | None = None
    dhash: int | None = None
    picture: Picture | None = None


class Resolver:
    """Fetches, decodes and embeds what queries name.

    `min_similarity` is what is asked of the results of a single picture, unless the query says.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ImageVectorStore,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        min_similarity: float,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._encoder = encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self._uploads = uploads
        self._min_similarity = min_similarity

    async def fetch(self, query: Query) -> Query:
        """Return the query with the pictures at its URLs in place of these."""
        return replace(query, terms=await gather([self._fetch(term) for term in query.terms]))

    async def _fetch(self, term: Term) -> Term:
        if term.url is None:
            return term
        return replace(term, url=None, data=await self._fetcher.fetch(term.url))

    async def resolve(self, query: Query, clock: Clock) -> tuple[Asked, Picture | None]:
        """Decode and embed what a query names; return also the first picture that was decoded.

        Raises `NoPicture` for an empty query, `QueryCancels`, `NotFound` for an image that has no
        vector, and what decoding raises.
        """
        if not (query.terms or query.like or query.unlike):
            raise NoPicture("Send a picture as `file` or by its `url`, or a phrase as `text`.")
        notes = self._notes(query)
        reads = self._encoder.has_text
        parts = [await self._embed(t, clock) for t in query.terms if reads or t.text is None]
        vector = combine([p.vector for p in parts], [p.weight for p in parts]) if parts else None
        if query.like or query.unlike:
            vector = rocchio(vector, await self._marked(query))
        alone = parts[0] if query.is_whole_picture else None
        lowest = query.min_similarity
        if lowest is None and alone is not None:
            lowest = self._min_similarity
        asked = Asked(
            vector=None if vector is None else vector.astype(np.float16).tobytes(),
            words=query.words,
            filters=query.filters,
            left_out=sorted(query.images),
            min_similarity=lowest,
            diversity=query.diversity,
            sha256=alone.sha256 if alone else None,
            dhash=alone.dhash if alone else None,
            before=datetime.now(UTC),
            notes=notes,
        )
        return asked, next((part.picture for part in parts if part.picture), None)

    def _notes(self, query: Query) -> list[str]:
        """Return what is not done as the query says; raises `InvalidRequest` if nothing can be."""
        model = self._encoder.model
        if self._encoder.has_text:
            texts = [term.text or "" for term in query.texts]
            return [f"Only the beginning was read of: {t[:60]}…" for t in texts if model.is_cut(t)]
        if not query.texts:
            return []
        if not query.words:
            if len(query.texts) == len(query.terms):
                raise InvalidRequest("Without anything to look for there is nothing to leave out.")
            return [f"The encoder {model.name} reads pictures only: no text was subtracted."]
        return [
            f"The encoder {model.name} reads pictures only: the words were looked for in titles, "
            "descriptions, tags and file names."
        ]

    async def _embed(self, term: Term, clock: Clock) -> _Part:
        if term.text is not None:
            vector = await self._encoder.embed_text(term.text)
            clock.lap("embed")
            return _Part(vector, term.weight)
        sha256, data = None, term.data or b""
        if term.image is not None:
            image, vector = await self._indexed(term.image)
            if term.crop is None:
                return _Part(vector, term.weight, image.sha256, image.dhash)
            _, data = await self._catalog.thumbnail(term.image) or ("", b"")
        elif term.upload is not None:
            upload = await self._uploads.find(term.upload)
            data, sha256 = upload.data, upload.sha256
        picture = await self._decoder.decode(data, crop=term.crop)
        clock.lap("decode")
        vector = await self._encoder.embed_image(picture.image)
        clock.lap("embed")
        return _Part(vector, term.weight, sha256 or picture.sha256, picture.dhash, picture)

    async def _indexed(self, image_id: UUID) -> tuple[Image, Vector]:
        image = await self._catalog.find(image_id)
        if image is None:
            raise NotFound(f"There is no picture {image_id} in the index.")
        vector = await self._store.vector(image_id)
        if vector is None:
            raise NotFound("This picture is not embedded with the encoder in use.")
        return image, vector

    async def _marked(self, query: Query) -> Marked:
        """Return the vectors of the marked images; one that was deleted meanwhile is left out."""
        vectors = await self._store.vectors([*query.like, *query.unlike])
        marked = Marked(
            [vectors[i] for i in query.like if i in vectors],
            [vectors[i] for i in query.unlike if i in vectors],
        )
        if not marked.like and not query.terms:
            raise NotFound("None of the marked pictures is in the index any more.")
        return marked
