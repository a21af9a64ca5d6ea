"""Rankings: which images pass, and orders other than the best first."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias
from uuid import UUID

from app.search.hits import Match, Reason, is_proved
from app.store.fingerprints import Fingerprint

Ranking: TypeAlias = Sequence[tuple[Fingerprint, Sequence[Reason]]]
"""Images with what found them, best first."""

Sort = Literal["best", "changed", "biggest", "newest", "oldest"]

MatchAtLeast = Literal["exact", "copy", "scene"]
"""What results must be at the least: `copy` includes `exact`, and `scene` both."""

PROVED: Mapping[Match, int] = {"exact": 0, "copy": 1, "scene": 2}
_CHANGED: Mapping[Match, int] = {"copy": 0, "exact": 1, "scene": 2}


def is_at_least(match: Match | None, wanted: MatchAtLeast | None) -> bool:
    """Return whether a match is so much, or nothing is wanted."""
    return wanted is None or PROVED.get(match or "similar", 3) <= PROVED[wanted]


def divided(
    ranking: Ranking,
    matches: Mapping[str, Match],
    similarities: Mapping[UUID, float],
    *,
    lowest: float | None,
    wanted: MatchAtLeast | None,
) -> tuple[Ranking, Ranking]:
    """Return those of a ranking that pass, and the others.

    `matches` are those of files. What is proved passes whatever its similarity, and so does what
    has none; a file passes with any of its images.
    """
    passing = {
        image.sha256
        for image, _ in ranking
        if lowest is None
        or is_proved(matches.get(image.sha256))
        or similarities.get(image.id, 1.0) >= lowest
    }
    passing = {file for file in passing if is_at_least(matches.get(file), wanted)}
    kept = [pair for pair in ranking if pair[0].sha256 in passing]
    return kept, [pair for pair in ranking if pair[0].sha256 not in passing]


def in_order(
    ranking: Ranking,
    matches: Mapping[str, Match],
    similarities: Mapping[UUID, float],
    sort: Sort,
) -> Ranking:
    """Return a ranking in another order; images that are equal in it stay as they are.

    `changed` has the copies first, the least similar before the others, then the same files, then
    scenes, then the rest.
    """

    def change(pair: tuple[Fingerprint, object]) -> tuple[int, float]:
        match = matches.get(pair[0].sha256, "similar")
        similarity = similarities.get(pair[0].id, 0.0)
        return _CHANGED.get(match, 3), similarity if match == "copy" else -similarity

    match sort:
        case "best":
            return ranking
        case "changed":
            return sorted(ranking, key=change)
        case "biggest":
            return sorted(ranking, key=lambda pair: -pair[0].pixels)
        case "newest" | "oldest":
            newest = sort == "newest"
            return sorted(ranking, key=lambda pair: pair[0].indexed_at, reverse=newest)
