"""Two images laid over each other by an affine map."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Floats, Pixels
from app.pictures.opencv import opencv
from app.pictures.shown import Look, Shown

# 2 x 3, or rows of it.
Matrix = NDArray[np.floating[Any]]

# The shared part is compared at a longest side of no more than this many pixels,
CANVAS_SIDE = 192
# and no less than this, although then both are enlarged.
LEAST_CANVAS_SIDE = 64
# Both are blurred by this, in pixels of the canvas: noise, compression and resampling differ.
BLUR = 1.2
MARGIN = 2


# Images are halved until they are enlarged or reduced by about so much at the most.
LEAST_REDUCTION = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """Two images by one look on one canvas, (h, w), and where both have pixels: 1, or else 0.

    `canvas` is the 2 x 3 map from the query's pixels to the canvas'.
    """

    query: Pixels
    image: Pixels
    shared: Pixels
    canvas: Matrix


def shared_polygon(
    matrix: Matrix, query_size: tuple[int, int], image_size: tuple[int, int]
) -> Floats:
    """Return the corners, (n, 2), of the part of the query that the map lays on the image.

    Sizes are (width, height); the corners are in pixels of the query. It is empty if there is none.
    """
    cv2 = opencv()
    inner = apply(inverse(matrix), corners(image_size)).astype(np.float32)
    _, polygon = cv2.intersectConvexConvex(corners(query_size).astype(np.float32), inner)
    return np.empty((0, 2), np.float32) if polygon is None else polygon.reshape(-1, 2)


def area(polygon: NDArray[Any]) -> float:
    """Return the area inside a polygon, (n, 2)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2) if len(polygon) else 0.0


def hull_area(points: Floats) -> float:
    """Return the area of the convex hull of points, (n, 2)."""
    cv2 = opencv()
    return float(cv2.contourArea(cv2.convexHull(points))) if len(points) > 2 else 0.0


def overlay(query: Shown, image: Shown, look: Look, matrix: Matrix, polygon: Floats) -> Overlay:
    """Lay what a look makes of two images on a canvas no finer than either.

    It holds the polygon, the part that they share, whose corners are in the query's pixels.
    """
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    side = float((high - low).max())
    # Pixels of the image per pixel of the query: what has fewer decides how fine the canvas is.
    detail = min(1.0, scale_of(matrix))
    longest = min(max(side * detail, LEAST_CANVAS_SIDE), CANVAS_SIDE)
    factor = longest / max(side, 1.0)
    left, top = low.tolist()
    canvas = np.array([[factor, 0, -factor * left], [0, factor, -factor * top]])
    width, height = (max(8, math.ceil(edge * factor)) for edge in (high - low).tolist())
    size = width, height
    return Overlay(
        _blurred(warped(query, look, canvas, size)),
        _blurred(warped(image, look, compose(canvas, inverse(matrix)), size)),
        _inside(apply(canvas, polygon), size),
        canvas,
    )


def warped(shown: Shown, look: Look, matrix: Matrix, size: tuple[int, int]) -> Pixels:
    """Map an image onto a canvas of this (width, height), averaging where it is reduced."""
    cv2 = opencv()
    scale, halvings = scale_of(matrix), 0
    while 0 < scale < LEAST_REDUCTION and 2 ** (halvings + 1) <= min(shown.size):
        scale, halvings = 2 * scale, halvings + 1
    if halvings:
        matrix = matrix * [2**halvings, 2**halvings, 1]
    return cv2.warpAffine(
        shown.halved(look, halvings),
        _centred(matrix),
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _blurred(pixels: Pixels) -> Pixels:
    return opencv().GaussianBlur(pixels, (0, 0), BLUR)


def _inside(polygon: NDArray[Any], size: tuple[int, int]) -> Pixels:
    """Return 1 within a polygon on a canvas of this size, except for a margin, and else 0."""
    cv2 = opencv()
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.round(polygon * 16 - 8).astype(np.int32), 1, shift=4)
    # Beside the edge, the blur mixes what lies on both of its sides.
    margin = np.ones((2 * MARGIN + 1,) * 2, np.uint8)
    return cv2.erode(mask, margin, borderType=cv2.BORDER_REPLICATE)


def block_means(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the means of (h, w) or (h, w, channels) values in square blocks, of the same type.

    What is left at the edges is dropped.
    """
    cv2 = opencv()
    rows, columns = (max(1, length // side) for length in values.shape[:2])
    cut = values[: rows * side, : columns * side]
    means = cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA)
    return means.reshape(rows, columns, *values.shape[2:])


def compose(second: Matrix, first: Matrix) -> Matrix:
    """Return the map that does `first`, then `second`."""
    # In closed form: a fifth of the time that products and stacks of small arrays take.
    (a, b, c), (d, e, f) = second.tolist()
    (g, h, i), (j, k, m) = first.tolist()
    return np.array(
        [
            [a * g + b * j, a * h + b * k, a * i + b * m + c],
            [d * g + e * j, d * h + e * k, d * i + e * m + f],
        ]
    )


def inverse(matrix: Matrix) -> Matrix:
    """Return the map back."""
    # In closed form: it takes a tenth of the time that a general inverse does.
    (a, b, c), (d, e, f) = matrix.tolist()
    determinant = a * e - b * d
    if not determinant:
        raise np.linalg.LinAlgError("a map onto a line has no inverse")
    a, b, d, e = e / determinant, -b / determinant, -d / determinant, a / determinant
    return np.array([[a, b, -a * c - b * f], [d, e, -d * c - e * f]])


def scale_of(matrix: Matrix) -> float:
    """Return by how much a map enlarges, on average over directions."""
    (a, b), (c, d) = matrix[:, :2].tolist()
    return abs(a * d - b * c) ** 0.5


def apply(matrix: Matrix, points: NDArray[Any]) -> NDArray[np.float64]:
    """Map points, (n, 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def resized(old: tuple[int, int], new: tuple[int, int]) -> Matrix:
    """Return the map from an image of one (width, height) to the same image at another."""
    return np.array([[new[0] / old[0], 0.0, 0.0], [0.0, new[1] / old[1], 0.0]])


def turned(size: tuple[int, int], turns: int) -> Matrix:
    """Return the map from an image of this size to the image turned anticlockwise, `turns` x 90."""
    width, height = size
    return np.array(
        [
            [[1.0, 0, 0], [0, 1, 0]],
            [[0, 1, 0], [-1, 0, width]],
            [[-1, 0, width], [0, -1, height]],
            [[0, -1, height], [1, 0, 0]],
        ][turns]
    )


def _centred(matrix: Matrix) -> Matrix:
    """Return the map for OpenCV, whose whole coordinates are pixels' centres instead of corners."""
    (a, b, c), (d, e, f) = matrix.tolist()
    return np.array([[a, b, (a + b) / 2 + c - 0.5], [d, e, (d + e) / 2 + f - 0.5]])


def corners(size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the corners of an image of this (width, height), (4, 2)."""
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
