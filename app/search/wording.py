"""What was found out about two images, in words: for the command line and the page."""

from app.search.comparer import Verdict
from app.search.verification import Alignment

# Alignments are exact to about this share of an image, this many degrees, and this ratio of sizes.
WHOLE = 0.97
LEAST_TURN = 1.0
LEAST_RESIZE = 1.02

MEANINGS = {
    "exact": "The same file.",
    "copy": "The same image, altered.",
    "scene": "The same place or thing in another image.",
    "similar": "Nothing proves that they are the same image.",
}
TOO_PLAIN = "One of them is too plain to be told from others, so only the same file is a match."


def meaning_of(verdict: Verdict) -> str:
    """Return in a sentence or two what the match means."""
    meaning = MEANINGS[verdict.match]
    return f"{meaning} {TOO_PLAIN}" if verdict.too_plain and verdict.match != "exact" else meaning


def facts_of(verdict: Verdict) -> dict[str, str]:
    """Return what the alignment says, by name; empty without one."""
    alignment = verdict.alignment
    if alignment is None:
        return {}
    facts = {
        "Overlap": _overlap(alignment),
        "Mirrored": "left to right" if alignment.mirrored else "no",
        "Rotation": _rotation(alignment),
        "Scale": _scale(alignment),
    }
    if verdict.match == "copy":
        facts["Differences"] = _differences(alignment)
    if verdict.match != "exact":
        facts["Proof"] = _proof(alignment)
    return facts


def _overlap(alignment: Alignment) -> str:
    first, second = alignment.query_overlap, alignment.image_overlap
    if first >= WHOLE and second >= WHOLE:
        return "all of both"
    return f"{_share(first)} of the first, {_share(second)} of the second"


def _share(share: float) -> str:
    return "all" if share >= WHOLE else f"{max(share, 0.01):.0%}"


def _rotation(alignment: Alignment) -> str:
    if abs(alignment.rotation) < LEAST_TURN:
        return "none"
    turn = round(abs(alignment.rotation))
    if turn == 180:
        return "the second is turned upside down"
    direction = "clockwise" if alignment.rotation > 0 else "anticlockwise"
    return f"the second is turned by {turn}° {direction}"


def _scale(alignment: Alignment) -> str:
    if alignment.scale >= LEAST_RESIZE:
        return f"{_times(alignment.scale)} times larger in the second"
    if alignment.scale * LEAST_RESIZE <= 1:
        return f"{_times(1 / alignment.scale)} times larger in the first"
    return "the same"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}".rstrip("0").rstrip(".")


def _differences(alignment: Alignment) -> str:
    number = len(alignment.differences)
    return {0: "none", 1: "one region"}.get(number, f"{number} regions")


def _proof(alignment: Alignment) -> str:
    if not alignment.inliers:
        return "their pixels agree"
    return f"{alignment.inliers} places lie on each other"
