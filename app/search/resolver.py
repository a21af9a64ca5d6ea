"""From a query that names pictures and texts to the vector and the words to look for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from uuid import UUID

import numpy as np
from typing_extensions import TypedDict

from app.encoding.encoder import Encoder, Reading, Vector
from app.indexing.fetcher import Fetcher
from app.indexing.indexer import gather
from app.pictures.decoding import Decoder, Picture
from app.problems import InvalidRequest, NoPicture, NotFound
from app.search.asked import Asked
from app.search.query import Marked, Query, Term, combine, rocchio
from app.store.catalog import Catalog, ImageRow
from app.store.uploads import Uploads
from app.store.vectors import VectorTable

LOOKED_UP = "the words were looked for in titles, descriptions, tags and file names"


class Timings(TypedDict):
    """Milliseconds that each stage took."""

    decode: float
    embed: float
    search: float
    total: float


class Clock:
    """Milliseconds spent in each stage, by the stage's name; a stage may come several times."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as this stage's."""
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def timings(self) -> Timings:
        """Return what was counted so far."""
        spent = {
            name: round(self._laps.get(name, 0.0), 2) for name in ("decode", "embed", "search")
        }
        total = round((self._last - self._start) * 1000, 2)
        return Timings(**spent, total=total)


@dataclass(frozen=True, slots=True)
class _Part:
    """A term of a query, embedded; of a picture, its hashes, and itself if it was decoded."""

    vector: Vector
    weight: float
    sha256: str | None = None
    dhash: int | None = None
    picture: Picture | None = None
    too_plain: bool = False


class Resolver:
    """Fetches, decodes and embeds what queries name.

    `min_similarity` is what is asked of the results of a single picture, unless the query says.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        vectors: VectorTable,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        min_similarity: float,
    ) -> None:
        self._catalog = catalog
        self._vectors = vectors
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
        texts = [term.text or "" for term in query.texts]
        readings = {text: self._encoder.model.read(text) for text in texts}
        unread = {text for text, reading in readings.items() if reading.is_empty}
        notes = self._notes(query, readings)
        parts = [await self._embed(term, clock) for term in query.terms if term.text not in unread]
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
            too_plain=alone.too_plain if alone else False,
            before=datetime.now(UTC),
            notes=notes,
            unknown_words=_unknown(readings),
        )
        return asked, next((part.picture for part in parts if part.picture), None)

    def _notes(self, query: Query, readings: Mapping[str, Reading]) -> list[str]:
        """Return what is not done as the query says; raises `InvalidRequest` if nothing can be."""
        encoder = f"The encoder {self._encoder.model.name}"
        notes: list[str] = []
        for text, reading in readings.items():
            if reading.is_cut:
                notes.append(f"Only the beginning was read of: {text[:60]}…")
            if reading.unknown_words and not reading.is_empty:
                notes.append(f"{encoder} does not know: {', '.join(reading.unknown_words)}.")
        unread = [term for term in query.texts if readings[term.text or ""].is_empty]
        if not unread:
            return notes
        if len(unread) == len(query.terms) and not query.words:
            raise InvalidRequest("Without anything to look for there is nothing to leave out.")
        named = ", ".join(f"“{(term.text or '')[:60]}”" for term in unread)
        why = f"knows no word of {named}" if self._encoder.has_text else "reads pictures only"
        wanted = any(term.weight > 0 for term in unread)
        return [*notes, f"{encoder} {why}: {LOOKED_UP if wanted else 'no text was subtracted'}."]

    async def _embed(self, term: Term, clock: Clock) -> _Part:
        if term.text is not None:
            vector = await self._encoder.embed_text(term.text)
            clock.lap("embed")
            return _Part(vector, term.weight)
        sha256, data = None, term.data or b""
        if term.image is not None:
            image, vector = await self._indexed(term.image)
            if term.crop is None:
                known = (image.sha256, image.dhash)
                return _Part(vector, term.weight, *known, too_plain=image.too_plain)
            _, data = await self._catalog.thumbnail(term.image) or ("", b"")
        elif term.upload is not None:
            upload = await self._uploads.find(term.upload)
            data, sha256 = upload.data, upload.sha256
        picture = await self._decoder.decode(data, crop=term.crop)
        clock.lap("decode")
        vector = await self._encoder.embed_image(picture.image)
        clock.lap("embed")
        return _Part(
            vector,
            term.weight,
            sha256 or picture.sha256,
            picture.dhash,
            picture,
            picture.too_plain,
        )

    async def _indexed(self, image_id: UUID) -> tuple[ImageRow, Vector]:
        image = await self._catalog.find(image_id)
        if image is None:
            raise NotFound(f"There is no picture {image_id} in the index.")
        vector = (await self._vectors.fetch([image_id])).get(image_id)
        if vector is None:
            raise NotFound("This picture is not embedded with the encoder in use.")
        return image, vector

    async def _marked(self, query: Query) -> Marked:
        """Return the vectors of the marked images; one that was deleted meanwhile is left out."""
        vectors = await self._vectors.fetch([*query.like, *query.unlike])
        marked = Marked(
            [vectors[i] for i in query.like if i in vectors],
            [vectors[i] for i in query.unlike if i in vectors],
        )
        if not marked.like and not query.terms:
            raise NotFound("None of the marked pictures is in the index any more.")
        return marked


def _unknown(readings: Mapping[str, Reading]) -> list[str]:
    words = (word for reading in readings.values() for word in reading.unknown_words)
    return list(dict.fromkeys(words))
