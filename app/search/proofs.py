"""Results that are given before all others, and what was proved of them; cursors hold them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from uuid import UUID

from app.search.hits import Hit, Match
from app.search.sorting import PROVED, MatchAtLeast, is_at_least
from app.search.verification import Alignment, Verified

# Of one file: a cursor has room for so many.
MOST_PLACES = 50


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a file: its match, and how the query lies on it.

    `ids` are the images with its bytes. If it is `lifted`, it comes before what is only near.
    """

    ids: Sequence[UUID]
    match: Match
    lifted: bool
    alignment: Alignment | None = field(default=None)

    def is_at_least(self, match: MatchAtLeast | None) -> bool:
        """Return whether it is lifted, and the match so much."""
        return self.lifted and is_at_least(self.match, match)

    @property
    def is_finite(self) -> bool:
        """Whether it has no number that JSON has not."""
        return self.alignment is None or all(map(math.isfinite, _numbers(asdict(self.alignment))))


def with_matches(
    hits: Sequence[Hit], found: Mapping[UUID, Verified], *, sha256: str | None
) -> list[Hit]:
    """Return hits with the matches that their bytes and the verified ones have."""
    return [hit.matching(found.get(hit.image.id), sha256=sha256) for hit in hits]


def proofs_of(hits: Sequence[Hit], *, lowest: float | None) -> list[Proof]:
    """Return what is known of hits: exact ones first, then copies, then scenes.

    A scene that is less similar than `lowest` is not lifted.
    """
    proofs = [
        Proof(hit.ids[:MOST_PLACES], hit.match, hit.passes(lowest), hit.alignment)
        for hit in hits
        if hit.match and hit.match in PROVED
    ]
    return sorted(proofs, key=lambda proof: PROVED[proof.match])


def _numbers(value: object) -> list[float]:
    if isinstance(value, float):
        return [value]
    values: list[Any] = []
    if isinstance(value, dict):
        values = list(cast(dict[str, Any], value).values())
    elif isinstance(value, (list, tuple)):
        values = list(cast(Sequence[Any], value))
    return [number for part in values for number in _numbers(part)]
