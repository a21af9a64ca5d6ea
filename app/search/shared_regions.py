"""The region that two images share, and those where they differ, as polygons on each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.pictures.registration import Matrix, apply, shared_polygon
from app.search.verification import Alignment

Polygon: TypeAlias = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Regions:
    """Polygons in the pixels of one of two images: the shared region, and what differs in it."""

    shared: Polygon
    differing: Sequence[Polygon]


def shared_regions(
    alignment: Alignment, query_size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[Regions, Regions]:
    """Return the regions on the query and on the image, whose (width, height) are given."""
    matrix = np.array(alignment.matrix)
    shared = shared_polygon(matrix, query_size, image_size).astype(np.float64)
    width, height = query_size
    differing = [
        np.array(
            [
                (region.x * width, region.y * height),
                ((region.x + region.width) * width, region.y * height),
                ((region.x + region.width) * width, (region.y + region.height) * height),
                (region.x * width, (region.y + region.height) * height),
            ]
        )
        for region in alignment.differences
    ]
    on_query = Regions(_points(shared), [_points(region) for region in differing])
    return on_query, Regions(
        _mapped(matrix, shared), [_mapped(matrix, region) for region in differing]
    )


def frame(
    alignment: Alignment, query_size: tuple[int, int], image_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the box around both, in pixels of the image: left, top, width and height."""
    width, height = query_size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)])
    laid = apply(np.array(alignment.matrix), corners)
    both = np.vstack([laid, [(0, 0), image_size]])
    left, top = both.min(axis=0).tolist()
    right, bottom = both.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def _mapped(matrix: Matrix, polygon: NDArray[Any]) -> Polygon:
    return _points(apply(matrix, polygon)) if len(polygon) else ()


def _points(polygon: NDArray[Any]) -> Polygon:
    return [(round(x, 1), round(y, 1)) for x, y in polygon.tolist()]
