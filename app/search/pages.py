"""Pages of results, and where the next one starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.pictures.decoding import Facts
from app.search.asked import Asked
from app.search.hits import Hit, Reason
from app.search.resolver import Timings
from app.store.vectors import ROUNDING

# The files of a first page of this many, which fit in a cursor, are named in it.
MOST_NAMED = 250


@dataclass(frozen=True, slots=True)
class Results:
    """A page of hits, best first, split into those at or above the threshold and those `below` it.

    `cursor` is that of the next page, None on the last. `notes` are sentences on how the query was
    read; `unknown_words` are the words of the query that the encoder does not know. `picture` is
    the query image, if one was decoded, and `size` the (width, height) of a single whole one.
    """

    hits: list[Hit]
    below: list[Hit]
    took_ms: Timings
    min_similarity: float | None
    cursor: str | None = None
    notes: Sequence[str] = ()
    unknown_words: Sequence[str] = ()
    picture: Facts | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The hits of a page, those below the threshold apart, and the query of the next page."""

    hits: list[Hit]
    below: list[Hit] = field(default_factory=list[Hit])
    following: Asked | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """Hits among the nearest images; if they are `all`, there are no others."""

    hits: list[Hit]
    all: bool


def split(asked: Asked, hits: Sequence[Hit], following: Asked | None) -> Page:
    """Return a page of the nearest images; there is no next one after those below the threshold."""
    lowest = asked.min_similarity
    passing = [hit for hit in hits if hit.passes(lowest)]
    below = [hit for hit in hits if not hit.passes(lowest)]
    return Page(passing, below, None if below else following)


def after(asked: Asked, page: Sequence[Hit]) -> Asked:
    """Return the query positioned after a page of hits."""
    lowest = page[-1].similarity or 0.0
    if asked.beyond is None and len(page) <= MOST_NAMED:
        return asked.without(lowest, [hit.image.sha256 for hit in page])
    near = [hit for hit in page if (hit.similarity or 0.0) <= lowest + 2 * ROUNDING]
    return asked.behind(lowest, [hit.image.sha256 for hit in near])


def reasons_of(*, near: bool, worded: bool) -> Sequence[Reason]:
    """Return what found an image."""
    pairs: list[tuple[bool, Reason]] = [(near, "picture"), (worded, "text")]
    return [reason for found, reason in pairs if found]
