"""Two images laid over each other by an affine map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Floats, Pixels
from app.pictures.opencv import opencv

# 2 x 3, or rows of it.
Matrix = NDArray[np.floating[Any]]

# The shared part is compared at a longest side of no more than this many pixels,
CANVAS_SIDE = 192
# and no less than this, although then both are enlarged.
LEAST_CANVAS_SIDE = 64
# Both are blurred by this, in pixels of the canvas: noise, compression and resampling differ.
BLUR = 1.2
MARGIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """Two grey images on one canvas, (h, w), and where both have pixels.

    `canvas` is the 2 x 3 map from the query's pixels to the canvas'.
    """

    query: Pixels
    image: Pixels
    shared: NDArray[np.bool_]
    canvas: Matrix


def shared_polygon(
    matrix: Matrix, query_size: tuple[int, int], image_size: tuple[int, int]
) -> Floats:
    """Return the corners, (n, 2), of the part of the query that the map lays on the image.

    Sizes are (width, height); the corners are in pixels of the query. It is empty if there is none.
    """
    cv2 = opencv()
    inner = apply(inverse(matrix), _corners(image_size)).astype(np.float32)
    _, polygon = cv2.intersectConvexConvex(_corners(query_size).astype(np.float32), inner)
    return np.empty((0, 2), np.float32) if polygon is None else polygon.reshape(-1, 2)


def area(polygon: NDArray[Any]) -> float:
    """Return the area inside a polygon, (n, 2)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2) if len(polygon) else 0.0


def hull_area(points: Floats) -> float:
    """Return the area of the convex hull of points, (n, 2)."""
    cv2 = opencv()
    return float(cv2.contourArea(cv2.convexHull(points))) if len(points) > 2 else 0.0


def overlay(query: Pixels, image: Pixels, matrix: Matrix, polygon: Floats) -> Overlay:
    """Lay two grey images, (h, w), on a canvas no finer than either.

    It holds the polygon, whose corners are in the query's pixels.
    """
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    side = float((high - low).max())
    # Pixels of the image per pixel of the query: what has fewer decides how fine the canvas is.
    detail = min(1.0, scale_of(matrix))
    longest = min(max(side * detail, LEAST_CANVAS_SIDE), CANVAS_SIDE)
    factor = longest / max(side, 1.0)
    canvas = np.array([[factor, 0, -factor * low[0]], [0, factor, -factor * low[1]]])
    width, height = (max(8, int(np.ceil(edge * factor))) for edge in (high - low).tolist())
    laid = compose(canvas, inverse(matrix))
    size = width, height
    shared = _inside(query, canvas, size) & _inside(image, laid, size)
    return Overlay(
        _blurred(warped(query, canvas, size)), _blurred(warped(image, laid, size)), shared, canvas
    )


def greyed(pixels: Pixels) -> Pixels:
    """Return RGB pixels, (h, w, 3), as grey ones, (h, w)."""
    cv2 = opencv()
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def brightest(pixels: Pixels) -> Pixels:
    """Return the brightest of the three colours of RGB pixels, (h, w, 3), as (h, w)."""
    cv2 = opencv()
    red, green, blue = cv2.split(pixels)
    return cv2.max(cv2.max(red, green), blue)


def warped(pixels: Pixels, matrix: Matrix, size: tuple[int, int]) -> Pixels:
    """Map an image onto a canvas of this (width, height), averaging where it is reduced."""
    cv2 = opencv()
    scale = scale_of(matrix)
    if scale < 0.7:
        height, width = pixels.shape[:2]
        smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
        matrix = compose(matrix, resized(smaller, (width, height)))
    return cv2.warpAffine(
        pixels,
        _centred(matrix),
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _blurred(pixels: Pixels) -> Pixels:
    return opencv().GaussianBlur(pixels, (0, 0), BLUR)


def _inside(pixels: Pixels, matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    cv2 = opencv()
    height, width = pixels.shape[:2]
    corners = apply(matrix, _corners((width, height)))
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners * 16 - 8).astype(np.int32), 1, shift=4)
    # Beside the edge, the blur mixes what lies on both of its sides.
    margin = np.ones((2 * MARGIN + 1,) * 2, np.uint8)
    return cv2.erode(mask, margin, borderType=cv2.BORDER_REPLICATE).astype(bool)


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
    linear = second[:, :2] @ first[:, :2]
    return np.column_stack([linear, second[:, :2] @ first[:, 2] + second[:, 2]])


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
    linear = matrix[:, :2]
    return np.column_stack([linear, linear @ [0.5, 0.5] + matrix[:, 2] - 0.5])


def _corners(size: tuple[int, int]) -> NDArray[np.float64]:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
