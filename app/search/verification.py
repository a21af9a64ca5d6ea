"""Whether an image found for a query is a copy of it, and how the two lie on each other.

`copy`: a map lays one on the other, and the pixels agree. `scene`: there is such a map, but the
pixels differ, as in photos of one place or thing taken again.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from app.pictures.decoding import Crop, hamming
from app.pictures.keypoints import Keypoints, Pixels
from app.pictures.registration import (
    Matrix,
    apply,
    area,
    compose,
    hull_area,
    inverse,
    resized,
    turned,
)
from app.pictures.views import View
from app.search.agreement import Agreement, agreement
from app.search.differences import differences
from app.search.geometry import fitted
from app.search.matching import matched

VerifiedMatch = Literal["copy", "scene"]

# Distinct places that must lie on each other for the pixels to be compared, and for a scene.
LEAST_PLACES, SCENE_PLACES = 4, 8
# With fewer than this, the map is corrected twice.
CERTAIN_PLACES = 12
# The inliers' hull must cover this share of the query or of the image.
LEAST_HULL = 0.03
# Of at least so many blocks, this share must agree in a copy.
LEAST_BLOCKS, LEAST_SHARE = 8, 0.5
# Of the blocks, no more than this share shows the same a little way off: what is nearer, in the
# frames of a burst, has moved further.
MOST_MOVED = 0.1
# Half of the blocks that agree, and four fifths of them, lie no further apart than this, in pixels
# of the canvas.
LARGEST_SHIFT, LARGEST_SHIFT_OF_MOST = 0.4, 0.8
# No more than this share of the blocks differs in one piece, although there is something in both: a
# thing in front of the same shelf is another thing.
LARGEST_REPLACED = 0.3
# No more than this share has another colour than the rest has it.
MOST_RECOLOURED = 0.3
# Where few places agree, they must be more than this share of those that could: a wall of bricks
# lies on any other, but its stones are others.
LEAST_FOUND = 0.05
# If this share of both is of one colour (paper, a white ground, a window), it is the rest that
# counts: no more than this share of it may show something else, such as other words on a form or
# another colour, unless only one of the two shows more than the other.
GROUND, MOST_REPLACED = 0.45, 0.02
# Whole images with difference hashes this near are compared even without keypoints in common. Of
# 16 copies that only this proves, 0.99 of the blocks agree or more; of other gradients, up to 0.97.
DHASH_BITS = 10
LEAST_SHARE_BY_HASH = 0.98


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

    `places` are the distinct places that agree with the map, and `hull` the share of the query or
    of the image, whichever is larger, that they span.
    """

    mirrored: bool
    places: int
    hull: float
    candidates: int
    pixels: Agreement

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
        if pixels.compared < LEAST_BLOCKS:
            return False
        if pixels.shift(50) > LARGEST_SHIFT or pixels.shift(80) > LARGEST_SHIFT_OF_MOST:
            return False
        if pixels.moved > MOST_MOVED:
            return False
        if pixels.largest_replaced > LARGEST_REPLACED or pixels.recoloured_share > MOST_RECOLOURED:
            return False
        if pixels.ground.share >= GROUND and self._is_other_on_ground:
            return False
        if not self.places:
            return pixels.share >= LEAST_SHARE_BY_HASH
        if self.places < CERTAIN_PLACES and self.places < LEAST_FOUND * self.candidates:
            return False
        return self.hull >= LEAST_HULL and pixels.share >= LEAST_SHARE

    @property
    def _is_other_on_ground(self) -> bool:
        """Whether another thing stands on the same ground."""
        ground = self.pixels.ground
        replaced = self.pixels.replaced > MOST_REPLACED and not ground.is_added_to
        return replaced or ground.is_exchanged


def verify(query: View, image: View) -> Verified | None:
    """Compare a query with one image; None if it proves nothing.

    A mirrored copy is looked for only if there is none that is not. It takes a millisecond if the
    two have nothing in common, and about six if they have. An image that is too plain is no one's
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
    to_keypoints = resized(_size(own), (keypoints.width, keypoints.height))
    to_pixels = resized((image.keypoints.width, image.keypoints.height), _size(pixels))
    matrix = compose(to_pixels, compose(fit.matrix, to_keypoints))
    found = agreement(own, pixels, matrix, rounds=1 if fit.places >= CERTAIN_PLACES else 2)
    if found is None:
        return None
    hulls = [
        hull_area(side.places[chosen[fit.inliers]]) / (side.width * side.height)
        for side, chosen in ((pairs.query, pairs.of_query), (pairs.image, pairs.of_image))
    ]
    candidates = _candidates(keypoints, image.keypoints, _size(own), _size(pixels), found.matrix)
    return Comparison(mirrored, fit.places, max(hulls), candidates, found)


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
    size = _size(np.rot90(own, turns))
    matrix = compose(resized(size, _size(pixels)), turned(_size(own), turns))
    found = agreement(own, pixels, matrix, rounds=2)
    candidates = min(len(query.keypoints), len(image.keypoints))
    return found and Comparison(bool(mirrored), 0, 1.0, candidates, found)


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
    to_own = resized((query.width, query.height), _size(own))
    to_image = resized(_size(pixels), (image.width, image.height))
    matrix = compose(to_image, compose(found.matrix, to_own))
    (a, b), (c, d) = matrix[:, :2]
    whole = area(found.polygon)
    regions = differences(found, _size(own)) if best.match == "copy" else ()
    if best.mirrored:
        matrix = compose(matrix, np.array([[-1.0, 0.0, query.width], [0.0, 1.0, 0.0]]))
        regions = tuple(Crop(1 - r.x - r.width, r.y, r.width, r.height) for r in regions)
    return Alignment(
        query_overlap=min(1.0, whole / (own.shape[0] * own.shape[1])),
        image_overlap=min(
            1.0, area(apply(found.matrix, found.polygon)) / (pixels.shape[0] * pixels.shape[1])
        ),
        matrix=_as_tuples(matrix),
        inliers=best.places,
        mirrored=best.mirrored,
        rotation=float(np.degrees(np.arctan2(c - b, a + d))),
        scale=float(np.sqrt(a * d - b * c)),
        edited=bool(regions),
        differences=regions,
    )


def _own_pixels(query: View, *, mirrored: bool) -> Pixels:
    pixels = query.pixels()
    return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels


def _size(pixels: Pixels) -> tuple[int, int]:
    """Return (width, height)."""
    height, width = pixels.shape[:2]
    return width, height


def _as_tuples(matrix: Matrix) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    (a, b, c), (d, e, f) = matrix.tolist()
    return (a, b, c), (d, e, f)
