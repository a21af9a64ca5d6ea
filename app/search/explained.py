"""How a result differs from the query image, for people: in words, and as an outline on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from app.faces.face import Box
from app.search.documents import AlignmentDocument, HitDocument
from app.search.hits import Hit, Match, is_proved
from app.search.verification import Alignment

# Of an image that is not cropped, so much or more is shared: alignments are not exact to a pixel.
WHOLE = 0.94
# Degrees, and the ratio of sizes, that are worth a word.
LEAST_TURN = 2.0
LEAST_RESIZE = 1.1

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outline:
    """The query on a result, in pixels of the result: its corners, and those of what differs.

    `shared` is empty if the query shows the whole result. In a search by a face there is nothing
    but the `face` that was found.
    """

    shared: Sequence[Point] = ()
    differences: Sequence[Sequence[Point]] = field(default=())
    face: Sequence[Point] = ()


class Matched(Protocol):
    """An image of which the match to another is known, and how similar the two are."""

    @property
    def match(self) -> Match | None:
        """What is proved."""
        ...

    @property
    def similarity(self) -> float | None:
        """The cosine similarity by which results are ranked."""
        ...

    @property
    def copy_similarity(self) -> float | None:
        """That of the copy vectors, None where one vector serves for both, or unless asked for."""
        ...


def similarity_of(found: Matched) -> float | None:
    """Return the similarity to show beside a match.

    Of what is proved to be the same image, that is how alike they are as copies: by what they show,
    a crop may be far from its original.
    """
    is_copy = is_proved(found.match) and found.copy_similarity is not None
    return found.copy_similarity if is_copy else found.similarity


def differences_of(hit: Hit | HitDocument, query: str = "yours") -> list[str]:
    """Return in what a copy or scene differs from the query, such as `mirrored`.

    `query` is what the query is called.
    """
    alignment = hit.alignment
    if alignment is None:
        return []
    words = _cropped(alignment, query)
    if alignment.mirrored:
        words.append("mirrored")
    turn = round(abs(alignment.rotation))
    if turn >= LEAST_TURN:
        words.append(f"turned by {turn}°")
    if alignment.scale >= LEAST_RESIZE:
        words.append(f"{alignment.scale:.1f} times larger")
    elif alignment.scale * LEAST_RESIZE <= 1:
        words.append(f"{1 / alignment.scale:.1f} times smaller")
    if alignment.edited:
        words.append("edited")
    return words


def outline_of(hit: Hit, size: tuple[int, int] | None) -> Outline | None:
    """Return where the query of (width, height) `size` lies; None if nothing is to be seen."""
    if hit.face is not None:
        return Outline(face=_corners(hit.face.box, hit.image.width, hit.image.height))
    alignment = hit.alignment
    if alignment is None or size is None:
        return None
    width, height = size
    shared: Sequence[Point] = ()
    if alignment.image_overlap < WHOLE:
        shared = _mapped(alignment, 0, 0, width, height)
    differences = [
        _mapped(
            alignment,
            region.x * width,
            region.y * height,
            (region.x + region.width) * width,
            (region.y + region.height) * height,
        )
        for region in alignment.differences
    ]
    return Outline(shared, differences) if shared or differences else None


def _corners(box: Box, width: int, height: int) -> list[Point]:
    xs, ys = (box.x, box.x + box.width), (box.y, box.y + box.height)
    corners = ((xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1]))
    return [(round(x * width, 1), round(y * height, 1)) for x, y in corners]


def _cropped(alignment: Alignment | AlignmentDocument, query: str) -> list[str]:
    query_is_whole = alignment.query_overlap >= WHOLE
    image_is_whole = alignment.image_overlap >= WHOLE
    if query_is_whole and image_is_whole:
        return []
    if query_is_whole:
        return [f"cropped: {query} is {alignment.image_overlap:.0%} of it"]
    if image_is_whole:
        return [f"cropped: it is {alignment.query_overlap:.0%} of {query}"]
    return ["cropped: parts of each"]


def _mapped(
    alignment: Alignment, left: float, top: float, right: float, bottom: float
) -> list[Point]:
    """Return the corners of a rectangle of the query, in pixels of the image."""
    (a, b, c), (d, e, f) = alignment.matrix
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return [(round(a * x + b * y + c, 1), round(d * x + e * y + f, 1)) for x, y in corners]
