"""Whether an image found for a query is a copy of it, and how the two lie on each other.

`copy`: a map lays one on the other, and the pixels agree. `scene`: there is such a map, but the
pixels differ, as in photos of one place or thing taken again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from app.pictures.decoding import Crop, hamming
from app.pictures.keypoints import Keypoints
from app.pictures.registration import (
    Matrix,
    apply,
    area,
    compose,
    corners,
    hull_area,
    inverse,
    resized,
    turned,
)
from app.pictures.shown import Shown
from app.pictures.views import View
from app.search.agreement import Agreement, agreement
from app.search.differences import differences
from app.search.geometry import fitted
from app.search.matching import matched

VerifiedMatch = Literal["copy", "scene"]

# Distinct places that must lie on each other for the pixels to be compared, and for a scene.
LEAST_PLACES, SCENE_PLACES = 4, 8
# With fewer than these, the map is corrected by the pixels twice, or once, before they count.
CERTAIN_PLACES, EXACT_PLACES = 12, 20
# The inliers' hull must cover this share of the query or of the image, unless so many of the places
# that could agree do, and of the blocks: of walls of bricks, no more than 0.06 of the places do.
LEAST_HULL = 0.03
LEAST_FOUND_IF_SMALL, LEAST_SHARE_IF_SMALL = 0.12, 0.95
# Of at least so many blocks, this share must agree in a copy.
LEAST_BLOCKS, LEAST_SHARE = 8, 0.5
# What is plain in one of the two only, such as the sky behind a caption, tells little: where the
# map is exact, this share is enough if hardly any block shows something else in both.
LEAST_SHARE_IF_EXACT, MOST_REPLACED_IF_EXACT = 0.4, 0.15
# Of the blocks, no more than this share shows the same a little way off: what is nearer, in the
# frames of a burst, has moved further.
MOST_MOVED = 0.1
# Half of the blocks that agree, and four fifths of them, lie no further apart than this, in pixels
# of the canvas.
LARGEST_SHIFTS = {50: 0.4, 80: 0.8}
# No more than this share of the blocks differs in one piece, although there is something in both: a
# thing in front of the same shelf is another thing.
LARGEST_REPLACED = 0.3
# No more than this share has another colour than the rest has it.
MOST_RECOLOURED = 0.3
# Where few places agree, they must be more than this share of those that could: a wall of bricks
# lies on any other, but its stones are others.
LEAST_FOUND = 0.05
# If much of both is of one colour (paper, a white ground, a window), it is the rest that
# counts: no more than this share of it may show something else, such as other words on a form or
# another colour, unless only one of the two shows more than the other.
MOST_REPLACED = 0.02
# Whole images with difference hashes this near are compared even without keypoints in common. Of
# 16 copies that only this proves, 0.99 of the blocks agree or more; of other gradients, up to 0.97.
DHASH_BITS = 10
LEAST_SHARE_BY_HASH = 0.98
# Their corners lie on each other, up to this share of the sides.
LARGEST_CORRECTION = 0.1


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a query lies on an image.

    `query_overlap` and `image_overlap` are the shares (0 to 1) of each that the other shows.
    `matrix` is ((a, b, c), (d, e, f)): the query's pixel x, y is the image's a x + b y + c,
    d x + e y + f, both upright and at full size. `inliers` are the distinct places that prove it;
    0 if only pixels do. The query, mirrored left to right first if `mirrored`, is turned by
    `rotation` degrees (clockwise, -180 to 180) and enlarged by `scale` to lie on the image.
    `edited` means that most of it agrees and the `differences` do not: regions of the query.
    """

    query_overlap: float
    image_overlap: float
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    inliers: int
    mirrored: bool
    rotation: float
    scale: float
    edited: bool = False
    differences: tuple[Crop, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Verified:
    """A match that was proved."""

    match: VerifiedMatch
    alignment: Alignment


@dataclass(frozen=True, eq=False)
class Comparison:
    """The map that was found between a query, mirrored or not, and an image, and what it shows.

    `places` are the distinct places that agree with the map, of so many `candidates` where they are
    few, and `hull` the share of the query or of the image, whichever is larger, that they span.
    `astray` means that the pixels have moved the map too far to be believed.
    """

    mirrored: bool
    places: int
    hull: float
    candidates: int
    pixels: Agreement
    astray: bool = False

    @cached_property
    def match(self) -> VerifiedMatch | None:
        """What it proves."""
        if self._is_copy:
            return "copy"
        scene = self.places >= SCENE_PLACES and self.hull >= LEAST_HULL
        return "scene" if scene else None

    @property
    def _is_copy(self) -> bool:
        pixels = self.pixels
        if pixels.compared < LEAST_BLOCKS or self.astray:
            return False
        if self.places:
            if self._has_few_places or not self._agrees_enough:
                return False
        elif pixels.share < LEAST_SHARE_BY_HASH:
            return False
        if pixels.recoloured_share > MOST_RECOLOURED or pixels.largest_replaced > LARGEST_REPLACED:
            return False
        if pixels.ground.matters and self._is_other_on_ground:
            return False
        # What takes longest comes last.
        is_moved = pixels.nearby.moved_more_than
        return pixels.shifts_within(LARGEST_SHIFTS) and not is_moved(MOST_MOVED)

    @property
    def _has_few_places(self) -> bool:
        """Whether too few places agree, or in too small a part, to rule out a repeated pattern."""
        found = self.places / max(1, self.candidates)
        if self.places < CERTAIN_PLACES and found < LEAST_FOUND:
            return True
        if self.hull >= LEAST_HULL:
            return False
        return found < LEAST_FOUND_IF_SMALL or self.pixels.share < LEAST_SHARE_IF_SMALL

    @property
    def _agrees_enough(self) -> bool:
        pixels = self.pixels
        if pixels.share >= LEAST_SHARE:
            return True
        exact = self.places >= EXACT_PLACES and pixels.replaced <= MOST_REPLACED_IF_EXACT
        return exact and pixels.share >= LEAST_SHARE_IF_EXACT

    @property
    def _is_other_on_ground(self) -> bool:
        """Whether another thing stands on the same ground."""
        ground = self.pixels.ground
        replaced = self.pixels.replaced > MOST_REPLACED and not ground.is_added_to
        return replaced or ground.is_exchanged


def verify(query: View, image: View) -> Verified | None:
    """Compare a query with one image; None if it proves nothing.

    A mirrored copy is looked for only if there is none that is not. It takes a millisecond if the
    two have nothing in common, and about four if they have. An image that is too plain is no one's
    copy.
    """
    if query.too_plain or image.too_plain:
        return None
    query, image = query.keeping_pixels(), image.keeping_pixels()
    best: Comparison | None = None
    for mirrored in (False, True):
        found = compared(query, image, mirrored=mirrored)
        if found is not None and (best is None or found.match == "copy"):
            best = found
        if best is not None and best.match == "copy":
            break
    if best is None or best.match != "copy":
        whole = compared_whole(query, image)
        best = whole if whole is not None and whole.match == "copy" else best
    if best is None or (match := best.match) is None:
        return None
    return Verified(match, _alignment(query, image, best))


def compared(query: View, image: View, *, mirrored: bool) -> Comparison | None:
    """Lay the query on the image by their keypoints; None if too few agree with any map."""
    keypoints = query.keypoints.mirrored() if mirrored else query.keypoints
    pairs = matched(keypoints, image.keypoints)
    fit = fitted(pairs)
    if fit is None or fit.places < LEAST_PLACES:
        return None
    own, pixels = _own_pixels(query, mirrored=mirrored), image.pixels()
    to_keypoints = resized(own.size, (keypoints.width, keypoints.height))
    to_pixels = resized((image.keypoints.width, image.keypoints.height), pixels.size)
    matrix = compose(to_pixels, compose(fit.matrix, to_keypoints))
    hulls = [
        hull_area(side.places[chosen[fit.inliers]]) / (side.width * side.height)
        for side, chosen in ((pairs.query, pairs.of_query), (pairs.image, pairs.of_image))
    ]
    found: Comparison | None = None
    for rounds in _rounds(fit.places):
        pixels_agree = agreement(own, pixels, matrix, rounds=rounds)
        if pixels_agree is None:
            break
        candidates = fit.places
        if candidates < CERTAIN_PLACES or max(hulls) < LEAST_HULL:
            sizes = own.size, pixels.size
            candidates = _candidates(keypoints, image.keypoints, *sizes, pixels_agree.matrix)
        found = Comparison(mirrored, fit.places, max(hulls), candidates, pixels_agree)
        if found.match == "copy":
            break
    return found


def _rounds(places: int) -> Sequence[int]:
    """Return how often to correct a map by the pixels, and how often if that proves no copy."""
    if places >= EXACT_PLACES:
        return (0, 1)
    return (1,) if places >= CERTAIN_PLACES else (2,)


def compared_whole(query: View, image: View) -> Comparison | None:
    """Lay the whole query on the whole image, turned as their hashes say; None if they differ.

    Blurred and plain images have few keypoints, or others than their copies.
    """
    distances = [hamming(each, image.dhash) for each in query.hashes()]
    orientation = int(np.argmin(distances))
    if distances[orientation] > DHASH_BITS:
        return None
    mirrored, turns = divmod(orientation, 4)
    own, pixels = _own_pixels(query, mirrored=bool(mirrored)), image.pixels()
    width, height = own.size
    size = (height, width) if turns % 2 else (width, height)
    matrix = compose(resized(size, pixels.size), turned(own.size, turns))
    found = agreement(own, pixels, matrix, rounds=2)
    if found is None:
        return None
    astray = _moves_corners(found.matrix, matrix, own.size, pixels.size)
    return Comparison(bool(mirrored), 0, 1.0, 0, found, astray)


def _moves_corners(
    corrected: Matrix, matrix: Matrix, size: tuple[int, int], image_size: tuple[int, int]
) -> bool:
    """Return whether two maps of a whole image on another put its corners far from each other.

    What is soft lies on anything soft that is stretched, turned and cut enough.
    """
    off = apply(corrected, corners(size)) - apply(matrix, corners(size))
    return bool((np.abs(off) > LARGEST_CORRECTION * np.array(image_size)).any())


def _candidates(
    query: Keypoints,
    image: Keypoints,
    query_size: tuple[int, int],
    image_size: tuple[int, int],
    matrix: Matrix,
) -> int:
    """Return how many keypoints are in the shared part, of the image that has fewer there."""
    there = compose(matrix, resized((query.width, query.height), query_size))
    back = compose(inverse(matrix), resized((image.width, image.height), image_size))
    inside = [
        int(((places >= 0) & (places <= size)).all(axis=1).sum())
        for places, size in (
            (apply(there, query.places), image_size),
            (apply(back, image.places), query_size),
        )
    ]
    return min(inside)


def _alignment(query: View, image: View, best: Comparison) -> Alignment:
    own, pixels, found = query.pixels(), image.pixels(), best.pixels
    to_own = resized((query.width, query.height), own.size)
    to_image = resized(pixels.size, (image.width, image.height))
    matrix = compose(to_image, compose(found.matrix, to_own))
    (a, b), (c, d) = matrix[:, :2]
    whole = area(found.polygon)
    regions = differences(found, own.size) if best.match == "copy" else ()
    if best.mirrored:
        matrix = compose(matrix, np.array([[-1.0, 0.0, query.width], [0.0, 1.0, 0.0]]))
        regions = tuple(Crop(1 - r.x - r.width, r.y, r.width, r.height) for r in regions)
    return Alignment(
        query_overlap=min(1.0, whole / math.prod(own.size)),
        image_overlap=min(1.0, area(apply(found.matrix, found.polygon)) / math.prod(pixels.size)),
        matrix=_as_tuples(matrix),
        inliers=best.places,
        mirrored=best.mirrored,
        rotation=float(np.degrees(np.arctan2(c - b, a + d))),
        scale=float(np.sqrt(a * d - b * c)),
        edited=bool(regions),
        differences=regions,
    )


def _own_pixels(query: View, *, mirrored: bool) -> Shown:
    pixels = query.pixels()
    return pixels.mirrored() if mirrored else pixels


def _as_tuples(matrix: Matrix) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    (a, b, c), (d, e, f) = matrix.tolist()
    return (a, b, c), (d, e, f)
