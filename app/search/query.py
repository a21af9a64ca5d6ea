"""What can be asked: pictures and texts added and subtracted, marked results, regions, filters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from app.encoding.encoder import Vector, unit
from app.pictures.decoding import Crop
from app.problems import InvalidRequest, QueryCancels
from app.store.filters import NO_FILTERS, Filters

# Manning, Raghavan and Schütze, "Introduction to Information Retrieval" (2008), section 9.1.1:
# reasonable weights of the query, of what is wanted and of what is not.
ROCCHIO_QUERY, ROCCHIO_WANTED, ROCCHIO_UNWANTED = 1.0, 0.75, 0.15

# Of terms that cancel each other, rounding leaves this much.
SHORTEST = 1e-3

MOST_TERMS = 50

_OPERATOR = re.compile(r"(?:^|\s)([+-])(?=\s)")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?|\.\d+):\s*(?=\S)")
_WEB = re.compile(r"https?://\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query, with its weight; below 0, it is subtracted.

    It is a picture file (`data`), the `url` of one, an `image` of the index, an earlier `upload`
    (see uploads.py), or a `text`. Of a picture, `crop` is the region that counts.
    """

    data: bytes | None = None
    url: str | None = None
    image: UUID | None = None
    upload: UUID | None = None
    text: str | None = None
    weight: float = 1.0
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search: `terms` together, moved towards images that are `like` it and away from others.

    `min_similarity` is the lowest cosine of a result; if None, what is usual for copies is asked of
    a single whole picture, and nothing of any other query. `diversity` from 0 to 1 trades likeness
    for results that differ from each other (see `marginal_relevance`).
    """

    terms: Sequence[Term] = ()
    like: Sequence[UUID] = ()
    unlike: Sequence[UUID] = ()
    filters: Filters = NO_FILTERS
    min_similarity: float | None = None
    diversity: float = 0.0
    limit: int = 100

    @property
    def images(self) -> set[UUID]:
        """The images of the index that the query names; its results leave them out."""
        named = {term.image for term in self.terms if term.image is not None}
        return named | {*self.like, *self.unlike}

    @property
    def texts(self) -> list[Term]:
        """The terms that are texts."""
        return [term for term in self.terms if term.text is not None]

    @property
    def words(self) -> str:
        """The texts as Postgres' `websearch_to_tsquery` reads them."""
        wanted = [term.text or "" for term in self.texts if term.weight > 0]
        unwanted = [f'-"{_unquoted(term.text or "")}"' for term in self.texts if term.weight < 0]
        return " ".join(wanted + unwanted) if wanted else ""

    @property
    def is_whole_picture(self) -> bool:
        """Whether it is one picture, all of it, and nothing else."""
        if len(self.terms) != 1 or self.like or self.unlike:
            return False
        [term] = self.terms
        return term.text is None and term.crop is None and term.weight > 0


@dataclass(frozen=True, slots=True)
class Marked:
    """The vectors of the images that were marked as wanted and as not."""

    like: list[Vector] = field(default_factory=list[Vector])
    unlike: list[Vector] = field(default_factory=list[Vector])


def read_terms(expression: str) -> list[Term]:
    """Read a text such as `2:golden retriever + https://example.com/pool.jpg - fruit`.

    A plus or minus between spaces begins a term, a number and a colon weigh it. What looks like a
    URL or the id of an image is one; everything else is text, and so is whatever is in double
    quotes. Raises `InvalidRequest`.
    """
    parts = _split(expression)
    terms = [_term(sign, said) for sign, said in parts if said]
    if len(terms) > MOST_TERMS:
        raise InvalidRequest(f"text: more than {MOST_TERMS} terms.")
    if any(not said for _, said in parts[1:]):
        raise InvalidRequest("text: a + or - with nothing behind it.")
    return terms


def combine(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """Return the weighted sum of unit vectors, at unit length; raises `QueryCancels`."""
    total = np.sum([w * v for v, w in zip(vectors, weights, strict=True)], axis=0)
    if np.linalg.norm(total) < SHORTEST:
        raise QueryCancels
    return unit(total[np.newaxis])[0]


def rocchio(query: Vector | None, marked: Marked) -> Vector:
    """Move a query towards the mean of what is wanted and away from that of what is not.

    J. Rocchio, "Relevance feedback in information retrieval" (1971). Raises `QueryCancels`.
    """
    means = [np.mean(vectors, axis=0) for vectors in (marked.like, marked.unlike) if vectors]
    weights = [
        weight
        for weight, vectors in (
            (ROCCHIO_WANTED, marked.like),
            (-ROCCHIO_UNWANTED, marked.unlike),
        )
        if vectors
    ]
    if query is not None:
        means, weights = [query, *means], [ROCCHIO_QUERY, *weights]
    return combine(means, weights)


def _split(expression: str) -> list[tuple[str, str]]:
    """Return (sign, term) pairs; operators inside double quotes are text."""
    sign, rest = "+", expression.strip()
    parts: list[tuple[str, str]] = []
    said = ""
    for quoted, piece in _pieces(rest):
        if quoted:
            said += piece
            continue
        between = _OPERATOR.split(piece)
        said += between[0]
        for operator, following in zip(between[1::2], between[2::2], strict=True):
            parts.append((sign, said.strip()))
            sign, said = operator, following
    return [*parts, (sign, said.strip())]


def _pieces(text: str) -> list[tuple[bool, str]]:
    """Return the text in pieces, and of each whether it is in double quotes, which it keeps."""
    return [(piece.startswith('"'), piece) for piece in re.findall(r'"[^"]*"|[^"]+|"', text)]


def _term(sign: str, said: str) -> Term:
    weight = 1.0
    weighted = _WEIGHT.match(said)
    if weighted:
        weight, said = float(weighted[1]), said[weighted.end() :]
    weight = -weight if sign == "-" else weight
    if _WEB.fullmatch(said):
        return Term(url=said, weight=weight)
    try:
        return Term(image=UUID(said), weight=weight)
    except ValueError:
        return Term(text=_unquoted(said) if _is_quoted(said) else said, weight=weight)


def _is_quoted(said: str) -> bool:
    return len(said) > 1 and said[0] == said[-1] == '"' and said.count('"') == 2


def _unquoted(said: str) -> str:
    return said.replace('"', " ").strip()
