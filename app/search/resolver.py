"""Resolves a query: fetches, decodes and embeds what it names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from app.encoding.encoder import Reading, Vector
from app.indexing.coalescer import gather
from app.indexing.fetcher import Fetcher
from app.pictures.decoding import Decoder, Facts, Picture
from app.pictures.tiles import SHORT_SIDE
from app.problems import InvalidRequest, NoPicture, NotFound
from app.search.asked import Asked, packed_vector
from app.search.parts import Part, cut
from app.search.query import Marked, Query, Term, combine, rocchio
from app.search.spreads import Spreads
from app.search.verifier import Looking, Subject, Verifier
from app.store.catalog import Catalog
from app.store.images import ImageRow
from app.store.spaces import Space, Spaces, embed, prepare
from app.store.uploads import Uploads

SEARCHED_WORDS = "titles, descriptions, tags and file names were searched for the words"
ONLY_IMAGES = "embeds images only"
MOST_UNKNOWN, LONGEST_UNKNOWN = 100, 100


class Timings(TypedDict):
    """Milliseconds per stage."""

    decode: float
    embed: float
    search: float
    total: float


class Clock:
    """Measures the stages of a search; laps of the same stage are added up."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def timings(self) -> Timings:
        """Return the milliseconds so far, rounded to hundredths."""
        spent = {
            name: round(self._laps.get(name, 0.0), 2) for name in ("decode", "embed", "search")
        }
        total = round((self._last - self._start) * 1000, 2)
        return Timings(**spent, total=total)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A query as it can be answered: `asked`, the first `picture` decoded, and the whole image.

    `subject` is None unless the query is a single whole image and is to be verified; `picture`,
    unless a preview is asked for, too. `view` is what verification will see of it, `parts` are
    those of a thorough query.
    """

    asked: Asked
    picture: Facts | None = None
    subject: Subject | None = None
    view: Looking | None = None
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """An embedded term; for an image also the SHA-256 of its file, its (width, height) and itself.

    There is no `subject` of an image of which only the vector is needed. `copy_vector` is that of a
    whole image, where images have two vectors.
    """

    vector: Vector
    weight: float
    sha256: str | None = None
    size: tuple[int, int] | None = None
    subject: Subject | None = None
    view: Looking | None = None
    parts: Sequence[Part] = ()
    copy_vector: Vector | None = None

    @property
    def is_text(self) -> bool:
        """Whether the term is a text."""
        return self.sha256 is None


class Resolver:
    """Turns a `Query` into an `Asked`, with everything it names fetched, decoded and embedded.

    `min_similarity` is the default for queries by a single whole image, None for no limit.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        spaces: Spaces,
        spreads: Spreads,
        decoder: Decoder,
        fetcher: Fetcher,
        uploads: Uploads,
        verifier: Verifier,
        min_similarity: float | None,
    ) -> None:
        self._catalog = catalog
        self._spaces = spaces
        self._spreads = spreads
        self._encoder = spaces.semantic.encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self._uploads = uploads
        self._verifier = verifier
        self._min_similarity = min_similarity

    async def fetch(self, query: Query) -> Query:
        """Return the query with its URLs replaced by the bytes fetched from them.

        Raises what the fetcher raises.
        """
        return replace(query, terms=await gather([self._fetch(term) for term in query.terms]))

    async def _fetch(self, term: Term) -> Term:
        if term.url is None:
            return term
        return replace(term, url=None, data=await self._fetcher.fetch(term.url))

    async def resolve(self, query: Query, clock: Clock) -> Resolved:
        """Decode and embed a fetched query.

        Raises `NoPicture` for an empty query, `InvalidRequest`, `QueryCancels`, `NotFound` for an
        image without a vector, and what decoding raises.
        """
        if query.is_empty:
            raise NoPicture("Send an image as `file` or by `url`, or a phrase as `text`.")
        texts = [term.text or "" for term in query.texts]
        readings = await self._encoder.read(texts) if texts else {}
        unread = {text for text, reading in readings.items() if reading.is_empty}
        notes = self._notes(query, readings)
        thorough = query.thorough and query.is_whole_picture
        read = [term for term in query.terms if term.text not in unread]
        wanted = self._wanted(query)
        seen = query.preview or thorough or (query.verified and query.is_whole_picture)
        looked_at = query.verified and query.is_whole_picture
        parts = [
            await self._embed(t, clock, wanted, seen=seen, thorough=thorough, looked_at=looked_at)
            for t in read
        ]
        vector = await self._combined(query, parts)
        alone = parts[0] if query.is_whole_picture else None
        _check(query, is_whole=alone is not None)
        subject = alone.subject if alone else None
        lowest = query.min_similarity
        if lowest is None and alone is not None:
            lowest = self._min_similarity
        asked = Asked(
            vector=packed_vector(vector),
            ranked_by=query.ranked_by,
            copy_vector=packed_vector(alone.copy_vector if alone else None),
            words=query.words,
            filters=query.filters,
            left_out=sorted(query.images),
            min_similarity=lowest,
            diversity=query.diversity,
            sha256=alone.sha256 if alone else None,
            size=alone.size if alone else None,
            match=query.match,
            sort=query.sort,
            beside=query.beside,
            notes=notes,
            unknown_words=_unknown(readings.values()),
        )
        pictures = (part.subject for part in parts)
        picture = next((p for p in pictures if isinstance(p, Facts)), None)
        if alone is None:
            return Resolved(asked, picture)
        return Resolved(asked, picture, subject, alone.view, alone.parts)

    def _notes(self, query: Query, readings: Mapping[str, Reading]) -> list[str]:
        """Return a note on each text that is not fully used; raises `InvalidRequest` if none is."""
        encoder = f"The encoder {self._encoder.model.name}"
        notes: list[str] = []
        for text, reading in readings.items():
            if reading.is_cut:
                notes.append(f"Only the beginning of this text was used: {text[:60]}…")
            if reading.unknown_words and not reading.is_empty:
                notes.append(f"{encoder} does not know: {', '.join(_unknown([reading]))}.")
        unread = [term for term in query.texts if readings[term.text or ""].is_empty]
        if not unread:
            return notes
        if len(unread) == len(query.terms) and not query.words:
            raise InvalidRequest(
                "A query needs something to search for, not only something to exclude."
            )
        named = ", ".join(f"“{(term.text or '')[:60]}”" for term in unread)
        reason = f"knows none of the words in {named}" if self._encoder.has_text else ONLY_IMAGES
        wanted = any(term.weight > 0 for term in unread)
        effect = SEARCHED_WORDS if wanted else "no text was subtracted"
        return [*notes, f"{encoder} {reason}: {effect}."]

    async def _combined(self, query: Query, parts: Sequence[_Part]) -> Vector | None:
        """Return the one vector of a query, None if it has none."""
        has_texts = any(part.is_text for part in parts)
        has_marked = bool(query.like or query.unlike)
        # Beside a text, images count by how much less its similarities spread than theirs.
        is_mixed = has_texts and (has_marked or not all(part.is_text for part in parts))
        spread = await self._spreads.measured() if is_mixed else None
        ratio = spread.ratio if spread else 1.0
        weights = [part.weight * (1.0 if part.is_text else ratio) for part in parts]
        vector = combine([part.vector for part in parts], weights) if parts else None
        if not has_marked:
            return vector
        marked = await self._marked(query)
        if spread is None or vector is None or not has_texts:
            return rocchio(vector, marked)
        return spread.marked_beside_text(vector, marked)

    def _wanted(self, query: Query) -> list[Space]:
        """Return the space by which results are ranked, and the other that is needed, if any."""
        ranked_by, copy = self._spaces.of(query.ranked_by), self._spaces.copy
        both = query.is_whole_picture and query.verified and ranked_by is not copy
        return [ranked_by, copy] if both else [ranked_by]

    async def _embed(
        self,
        term: Term,
        clock: Clock,
        wanted: Sequence[Space],
        *,
        seen: bool,
        thorough: bool,
        looked_at: bool,
    ) -> _Part:
        """Embed a term; one that is `seen` is also described, for what comes after the vectors.

        What is `looked_at` will be verified.
        """
        if term.text is not None:
            vector = await self._encoder.embed_text(term.text)
            clock.lap("embed")
            return _Part(vector, term.weight)
        sha256, data = None, term.data or b""
        if term.image is not None:
            image, vectors = await self._indexed(term.image, wanted)
            if term.crop is None:
                parts = await self._parts(image) if thorough else []
                clock.lap("decode")
                size = (image.width, image.height)
                return _Part(
                    vectors[0], term.weight, image.sha256, size, image, None, parts, *vectors[1:]
                )
            _, data = await self._catalog.thumbnail(term.image) or ("", b"")
        elif term.upload is not None:
            upload = await self._uploads.find(term.upload)
            data, sha256 = upload.data, upload.sha256

        def work(picture: Picture) -> tuple[dict[Space, Any], list[Part]]:
            parts = cut(picture, self._spaces.copy.encoder) if thorough else []
            return prepare(wanted, picture), parts

        if seen:
            source, (prepared, parts) = await self._decoder.decode_and(
                data,
                work,
                crop=term.crop,
                short_side=SHORT_SIDE if thorough else 0,
                first=True,
            )
        else:
            source, (prepared, parts) = await self._decoder.look(data, work, crop=term.crop)
        clock.lap("decode")
        subject = source if isinstance(source, Facts) else None
        view = self._verifier.look(subject) if subject and looked_at else None
        vector, *others = (await embed(prepared)).values()
        clock.lap("embed")
        size = (source.width, source.height)
        file = sha256 or source.sha256
        return _Part(vector, term.weight, file, size, subject, view, parts, *others)

    async def _parts(self, image: ImageRow) -> list[Part]:
        """Return the parts of an indexed image, by its thumbnail."""
        _, data = await self._catalog.thumbnail(image.id) or ("", b"")
        size = (image.width, image.height)
        _, parts = await self._decoder.decode_and(
            data, lambda picture: cut(picture, self._spaces.copy.encoder, size=size), first=True
        )
        return parts

    async def _indexed(
        self, image_id: UUID, wanted: Sequence[Space]
    ) -> tuple[ImageRow, tuple[Vector, *tuple[Vector | None, ...]]]:
        """Return an image, its vector of the first space, and those of others, if it has them."""
        image = await self._catalog.find(image_id)
        if image is None:
            raise NotFound(f"There is no image {image_id} in the index.")
        found = [(await space.vectors.fetch([image_id])).get(image_id) for space in wanted]
        vector, *others = found
        if vector is None:
            raise NotFound("This image is not embedded with the encoder in use.")
        return image, (vector, *others)

    async def _marked(self, query: Query) -> Marked:
        """Return the vectors of the marked images, without those deleted since."""
        vectors = await self._spaces.semantic.vectors.fetch(
            [*query.like, *query.unlike], limit=query.limit + len(query.images) + 1
        )

        def weighted(ids: Sequence[UUID]) -> list[Vector]:
            return [query.mark_weights.get(i, 1.0) * vectors[i] for i in ids if i in vectors]

        marked = Marked(weighted(query.like), weighted(query.unlike))
        if not marked.like and not query.terms:
            raise NotFound("None of the marked images is in the index any longer.")
        return marked


def _check(query: Query, *, is_whole: bool) -> None:
    """Raise `InvalidRequest` for what such a query does not have."""
    if query.diversity and query.sort != "best":
        raise InvalidRequest("sort: varied results have an order of their own.")
    if query.thorough and not is_whole:
        raise InvalidRequest("thorough: only one whole image is searched for by its parts.")
    if query.match is not None and not is_whole:
        raise InvalidRequest("match: only a search by one whole image has matches.")
    if query.sort == "changed" and not is_whole:
        raise InvalidRequest("sort: only the results of one whole image can be sorted by change.")


def _unknown(readings: Iterable[Reading]) -> list[str]:
    """Return unknown words, no more and no longer than a note and a cursor have room for."""
    words = (word for reading in readings for word in reading.unknown_words)
    return [word[:LONGEST_UNKNOWN] for word in dict.fromkeys(words)][:MOST_UNKNOWN]
