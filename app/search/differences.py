"""Where two images that are otherwise the same differ: a caption, a sticker, an inset."""

import numpy as np
from numpy.typing import NDArray

from app.pictures.decoding import Crop
from app.pictures.registration import apply, inverse
from app.search.agreement import Agreement
from app.search.blocks import BLOCK

# Fewer blocks than this side by side are noise.
LEAST_BLOCKS = 2


def differences(found: Agreement, size: tuple[int, int]) -> tuple[Crop, ...]:
    """Return the regions of the query, whose (width, height) is given, that differ, largest first.

    They are the boxes around connected blocks that disagree.
    """
    regions = [cells for cells in _connected(found.differing) if len(cells) >= LEAST_BLOCKS]
    regions.sort(key=len, reverse=True)
    return tuple(_box(found, cells, size) for cells in regions)


def _connected(differing: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Return the groups of (row, column) that touch each other, by a side or a corner."""
    left = {(int(row), int(column)) for row, column in np.argwhere(differing)}
    groups: list[list[tuple[int, int]]] = []
    while left:
        waiting = [left.pop()]
        group: list[tuple[int, int]] = []
        while waiting:
            row, column = waiting.pop()
            group.append((row, column))
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            waiting.extend(around)
        groups.append(group)
    return groups


def _box(found: Agreement, cells: list[tuple[int, int]], size: tuple[int, int]) -> Crop:
    rows, columns = zip(*cells, strict=True)
    corners = np.array([[min(columns), min(rows)], [max(columns) + 1, max(rows) + 1]]) * BLOCK
    (left, top), (right, bottom) = np.clip(
        apply(inverse(found.canvas), corners) / size, 0, 1
    ).tolist()
    return Crop(left, top, right - left, bottom - top)
