"""Queries: weighted images and texts, marked results, regions and filters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector, unit
from app.indexing.requests import MAX_TEXT
from app.pictures.decoding import Crop
from app.problems import InvalidRequest, QueryCancels
from app.search.sorting import MatchAtLeast, Sort
from app.store.beside import Beside
from app.store.filters import NO_FILTERS, Filters
from app.store.spaces import SpaceKind

# Manning, Raghavan and Schütze, "Introduction to Information Retrieval" (2008), section 9.1.1:
# reasonable weights of the query, the relevant and the irrelevant images.
ROCCHIO_QUERY, ROCCHIO_WANTED, ROCCHIO_UNWANTED = 1.0, 0.75, 0.15

# A shorter sum is what rounding leaves of terms that cancel each other.
MIN_LENGTH = 1e-3

Kind = Literal["image", "text", "mixed"]

MOST_TERMS = 50
# Of them: each text is embedded, and a URL takes as long as its server likes.
MOST_TEXTS = 16
MOST_URLS = 5
MAX_WEIGHT = 100

# Characters of a query by words.
LONGEST_WORDS = 10_000

_OPERATOR = re.compile(r"(?:^|\s)([+-])(?=\s)")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?|\.\d+):\s*(?=\S)")
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
# Without its hyphens, it is as likely the name of a file.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query; a negative `weight` subtracts it.

    Exactly one is given of `data` (an image file), `url`, `image` (the id of an indexed image),
    `upload` (the id of a stored query image, see uploads.py) and `text`. `crop` limits an image to
    a region. A `quoted` text is searched for as a phrase.
    """

    data: bytes | None = None
    url: str | None = None
    image: UUID | None = None
    upload: UUID | None = None
    text: str | None = None
    weight: float = 1.0
    crop: Crop | None = None
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search by the sum of `terms`, moved towards the `like` images and away from `unlike`.

    Each of those counts by its number in `mark_weights`, or else once.

    `min_similarity` is the lowest cosine of a result. If it is None, MIN_SIMILARITY applies to a
    query by one whole image, and no limit to any other. `diversity`, 0 to 1, trades similarity for
    varied results (see `marginal_relevance`). `verified` says whether the nearest images are
    compared in detail with a query by one whole image; `match` leaves out what is not so much, and
    `sort` puts the others in an order. With a `preview`, the results have the first query image's
    thumbnail. If it is `thorough`, parts of the query image are searched for, too. Where images
    have two vectors, `ranked_by` says which one similarities are of. `beside` is what else
    is read of the images that are found.
    """

    terms: Sequence[Term] = ()
    like: Sequence[UUID] = ()
    unlike: Sequence[UUID] = ()
    mark_weights: Mapping[UUID, float] = field(default_factory=dict[UUID, float])
    filters: Filters = NO_FILTERS
    min_similarity: float | None = None
    diversity: float = 0.0
    limit: int = 100
    verified: bool = True
    preview: bool = False
    thorough: bool = False
    match: MatchAtLeast | None = None
    sort: Sort = "best"
    ranked_by: SpaceKind = "semantic"
    beside: frozenset[Beside] = frozenset()

    @property
    def images(self) -> set[UUID]:
        """The ids of the indexed images that the query names; its results exclude them."""
        named = {term.image for term in self.terms if term.image is not None}
        return named | {*self.like, *self.unlike}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is searched for, apart from filters."""
        return not (self.terms or self.like or self.unlike)

    @property
    def texts(self) -> list[Term]:
        """The terms that are texts."""
        return [term for term in self.terms if term.text is not None]

    @property
    def urls(self) -> list[str]:
        """The URLs to be fetched."""
        return [term.url for term in self.terms if term.url is not None]

    @property
    def kind(self) -> Kind:
        """What is searched by: one image, one text, or several terms or marked results."""
        if len(self.terms) != 1 or self.like or self.unlike:
            return "mixed"
        return "image" if self.terms[0].text is None else "text"

    @property
    def words(self) -> str:
        """The texts as one query by words (see store/word_query.py), empty if none is added.

        Each of several long texts has an equal share of it.
        """
        share = LONGEST_WORDS // max(1, len(self.texts))
        texts = [replace(term, text=(term.text or "")[:share]) for term in self.texts]
        wanted = [_as_words(term) for term in texts if term.weight > 0]
        unwanted = [f'-"{_unquoted(term.text or "")}"' for term in texts if term.weight < 0]
        return " ".join(wanted + unwanted) if wanted else ""

    @property
    def is_whole_picture(self) -> bool:
        """Whether the query is a single image, uncropped and not subtracted."""
        if len(self.terms) != 1 or self.like or self.unlike:
            return False
        [term] = self.terms
        return term.text is None and term.crop is None and term.weight > 0


@dataclass(frozen=True, slots=True)
class Marked:
    """The vectors of the images marked as relevant (`like`) and irrelevant (`unlike`).

    Each is a unit vector times the weight of its image.
    """

    like: list[Vector] = field(default_factory=list[Vector])
    unlike: list[Vector] = field(default_factory=list[Vector])


def read_terms(expression: str) -> list[Term]:
    """Parse an expression such as `2:golden retriever + https://example.com/pool.jpg - fruit`.

    A plus or minus between spaces starts a term; a number and a colon before it are its weight.
    URLs and image ids are recognised; everything else is text, and so is whatever is in double
    quotes. Raises `InvalidRequest`.
    """
    parts = _split(expression)
    terms = [_term(sign, content) for sign, content in parts if content]
    if len(terms) > MOST_TERMS:
        raise InvalidRequest(f"text: at most {MOST_TERMS} terms are allowed.")
    if any(not content for _, content in parts[1:]):
        raise InvalidRequest("text: a + or - must be followed by a term.")
    return terms


def written_terms(terms: Sequence[Term]) -> str:
    """Return terms as an expression, which `read_terms` reads as the same terms."""
    written = " ".join(f"{'-' if term.weight < 0 else '+'} {_written(term)}" for term in terms)
    return written.removeprefix("+ ")


def check_sizes(terms: Sequence[Term]) -> None:
    """Raise `InvalidRequest` for too many texts or URLs, or texts that are too long together."""
    texts = sum(term.text is not None for term in terms)
    if texts > MOST_TEXTS:
        raise InvalidRequest(f"text: a search may have {MOST_TEXTS} texts, and this has {texts}.")
    urls = sum(term.url is not None for term in terms)
    if urls > MOST_URLS:
        raise InvalidRequest(f"url: a search may name {MOST_URLS} URLs, and this names {urls}.")
    length = sum(len(term.text or "") for term in terms)
    if length > MAX_TEXT:
        raise InvalidRequest(
            f"text: the texts of a search may have {MAX_TEXT:,} characters together, "
            f"and these have {length:,}."
        )


def combine(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """Return the weighted sum of unit vectors, scaled to unit length; raises `QueryCancels`."""
    total = np.sum([w * v for v, w in zip(vectors, weights, strict=True)], axis=0)
    if np.linalg.norm(total) < MIN_LENGTH:
        raise QueryCancels
    return unit(total[np.newaxis])[0]


def rocchio(
    query: Vector | None,
    marked: Marked,
    *,
    wanted: float = ROCCHIO_WANTED,
    unwanted: float = ROCCHIO_UNWANTED,
) -> Vector:
    """Move a query towards the mean of the relevant vectors and away from the irrelevant ones.

    Returns a unit vector; raises `QueryCancels`. J. Rocchio, "Relevance feedback in information
    retrieval" (1971).
    """
    means = [np.mean(vectors, axis=0) for vectors in (marked.like, marked.unlike) if vectors]
    weights = [
        weight
        for weight, vectors in (
            (wanted, marked.like),
            (-unwanted, marked.unlike),
        )
        if vectors
    ]
    if query is not None:
        means, weights = [query, *means], [ROCCHIO_QUERY, *weights]
    return combine(means, weights)


def _split(expression: str) -> list[tuple[str, str]]:
    """Return (sign, content) pairs; operators inside double quotes are content."""
    sign, content = "+", ""
    parts: list[tuple[str, str]] = []
    for quoted, piece in _pieces(expression.strip()):
        if quoted:
            content += piece
            continue
        between = _OPERATOR.split(piece)
        content += between[0]
        for operator, following in zip(between[1::2], between[2::2], strict=True):
            parts.append((sign, content.strip()))
            sign, content = operator, following
    return [*parts, (sign, content.strip())]


def _pieces(text: str) -> list[tuple[bool, str]]:
    """Return the text in (is quoted, piece) pairs; quoted pieces keep their double quotes."""
    return [(piece.startswith('"'), piece) for piece in re.findall(r'"[^"]*"|[^"]+|"', text)]


def _term(sign: str, content: str) -> Term:
    weight = 1.0
    weighted = _WEIGHT.match(content)
    # `0:30` and `2001: A Space Odyssey` are texts.
    if weighted and 0 < float(weighted[1]) <= MAX_WEIGHT:
        weight, content = float(weighted[1]), content[weighted.end() :]
    weight = -weight if sign == "-" else weight
    if _URL.fullmatch(content):
        return Term(url=content, weight=weight)
    if _ID.fullmatch(content):
        return Term(image=UUID(content), weight=weight)
    if _is_quoted(content):
        return Term(text=_unquoted(content), weight=weight, quoted=True)
    return Term(text=content, weight=weight)


def _written(term: Term) -> str:
    content = term.url or str(term.image or "") or term.text or ""
    content = f'"{content}"' if term.quoted else content
    weight = abs(term.weight)
    return f"{weight:g}:{content}" if weight != 1 or _WEIGHT.match(content) else content


def _as_words(term: Term) -> str:
    """Return a text as a query by words, in which no quote reaches into the next text."""
    text = term.text or ""
    if term.quoted:
        return f'"{_unquoted(text)}"'
    if text.count('"') % 2 == 0:
        return text
    before, _, after = text.rpartition('"')
    return f"{before}“{after}"


def _is_quoted(content: str) -> bool:
    return len(content) > 1 and content[0] == content[-1] == '"' and content.count('"') == 2


def _unquoted(content: str) -> str:
    return content.replace('"', " ").strip()
