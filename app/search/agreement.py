"""Whether the pixels of two images agree where a map lays one on the other, block by block."""

from dataclasses import dataclass

import numpy as np

from app.pictures.keypoints import Floats, Pixels
from app.pictures.registration import (
    Matrix,
    Overlay,
    compose,
    displacements,
    inverse,
    overlay,
    shared_polygon,
)

# Blocks are squares of this many pixels of the canvas.
BLOCK = 12
# A block is plain if the grey values in it have a smaller standard deviation, of 255.
PLAIN = 3.0
# Blocks agree from this correlation on.
AGREES = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well two images agree under `matrix`, from the query's pixels to the image's.

    `correlations` are those of the blocks' grey values, (rows, columns), NaN where a block is plain
    in both images or not shared; `shifts` how far the blocks lie apart, in pixels of the canvas.
    `canvas` maps the query's pixels to the canvas'.
    """

    matrix: Matrix
    polygon: Floats
    correlations: Floats
    shifts: Floats
    canvas: Matrix

    @property
    def compared(self) -> int:
        """The number of blocks compared."""
        return int(np.isfinite(self.correlations).sum())

    @property
    def share(self) -> float:
        """The share of the compared blocks that agree."""
        return float((self.correlations >= AGREES).sum() / max(1, self.compared))


def agreement(query: Pixels, image: Pixels, matrix: Matrix, *, rounds: int = 2) -> Agreement | None:
    """Correct the map by the pixels, then compare them; None if it leaves nothing to compare."""
    sizes = query.shape[1::-1], image.shape[1::-1]
    for _ in range(rounds):
        polygon = shared_polygon(matrix, *sizes)
        if len(polygon) < 3:
            return None
        laid = overlay(query, image, matrix, polygon)
        matrix = _corrected(matrix, laid, displacements(laid))
    polygon = shared_polygon(matrix, *sizes)
    if len(polygon) < 3:
        return None
    laid = overlay(query, image, matrix, polygon)
    shifts = np.median(_blocks(np.linalg.norm(displacements(laid), axis=2)), axis=(2, 3))
    return Agreement(matrix, polygon, _correlations(laid), shifts, laid.canvas)


def _corrected(matrix: Matrix, laid: Overlay, flow: Floats) -> Matrix:
    """Return the map composed with the affine map that explains the displacements best."""
    step = 4
    y, x = np.mgrid[step // 2 : flow.shape[0] : step, step // 2 : flow.shape[1] : step]
    keep = laid.shared[y, x]
    x, y = x[keep], y[keep]
    moved = flow[y, x]
    rows = np.stack([x, y, np.ones(len(x))], axis=1).astype(np.float64)
    target = rows[:, :2] + moved
    weights = _detail(laid)[y, x]
    correction: Matrix = np.eye(2, 3)
    for _ in range(4):
        rest = np.linalg.norm(rows @ correction.T - target, axis=1)
        # Cauchy's weights: what lies a pixel off counts half.
        weight = weights / (1 + rest**2)
        square = (rows * weight[:, None]).T @ rows + 1e-3 * np.eye(3)
        pull = (rows * weight[:, None]).T @ target + 1e-3 * np.eye(3, 2)
        correction = _solved(square, pull)
    # From canvas to canvas; the image's pixels lie on it by `matrix`.
    back = compose(matrix, inverse(laid.canvas))
    return compose(compose(back, correction), laid.canvas)


def _solved(square: Matrix, pull: Matrix) -> Matrix:
    return np.linalg.solve(square, pull).T


def _detail(laid: Overlay) -> Floats:
    """Return a weight for each pixel: the gradients of both, where they are."""
    grey = laid.query.mean(axis=2)
    return np.hypot(*np.gradient(grey)).astype(np.float32) + 0.5


def _blocks(values: Floats) -> Floats:
    """Return (rows, columns, side, side) blocks; what is left at the edges is dropped."""
    rows, columns = (max(1, length // BLOCK) for length in values.shape[:2])
    side = min(BLOCK, *values.shape[:2])
    cut = values[: rows * side, : columns * side]
    return cut.reshape(rows, side, columns, side).swapaxes(1, 2)


def _correlations(laid: Overlay) -> Floats:
    query, image = (_blocks(p.mean(axis=2, dtype=np.float32)) for p in (laid.query, laid.image))
    shared = _blocks(laid.shared.astype(np.float32)).mean(axis=(2, 3)) > 0.75
    a, b = (part - part.mean(axis=(2, 3), keepdims=True) for part in (query, image))
    spread_a, spread_b = (np.sqrt((part**2).mean(axis=(2, 3))) for part in (a, b))
    told = shared & (np.maximum(spread_a, spread_b) >= PLAIN)
    covariance = (a * b).mean(axis=(2, 3))
    correlation = covariance / (np.maximum(spread_a, 0.5) * np.maximum(spread_b, 0.5))
    return np.where(told, correlation, np.nan).astype(np.float32)
