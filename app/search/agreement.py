"""Whether the pixels of two images agree where a map lays one on the other, block by block."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.pictures.displacement import (
    affine_motion,
    displacements,
    equally_sharp,
    moved_back,
    smooth_motion,
)
from app.pictures.keypoints import Floats, Pixels
from app.pictures.registration import (
    Matrix,
    Overlay,
    compose,
    greyed,
    inverse,
    overlay,
    shared_polygon,
)

# A shared part that is narrower than this, in pixels of the query, shows nothing.
LEAST_SIDE = 16
# Blocks are squares of this many pixels of the canvas.
BLOCK = 12
# A block is plain if the grey values in it have a smaller standard deviation, of 255.
PLAIN = 3.0
# Blocks agree from this correlation on.
AGREES = 0.6
# A block counts if this share of it lies in both images.
LEAST_SHARED = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well two images agree under `matrix`, from the query's pixels to the image's.

    The shared part, the `polygon` (in the query's pixels), is cut into blocks, (rows, columns).
    `correlations` are those of their grey values, NaN where a block is plain in both images or not
    shared; `structured` says where it is plain in neither; `shifts` how far it lies from where a
    smooth motion puts it, in pixels of the canvas. `plain` is the number of the blocks that are
    plain in both. `canvas` maps the query's pixels to the canvas'.
    """

    matrix: Matrix
    polygon: Floats
    correlations: Floats
    structured: NDArray[np.bool_]
    shifts: Floats
    plain: int
    canvas: Matrix

    @property
    def compared(self) -> int:
        """The number of blocks compared."""
        return int(np.isfinite(self.correlations).sum())

    @property
    def share(self) -> float:
        """The share of the compared blocks that agree."""
        return float((self.correlations >= AGREES).sum() / max(1, self.compared))

    @property
    def shift(self) -> float:
        """The median shift of the blocks that agree, in pixels of the canvas."""
        shifts = self.shifts[self.correlations >= AGREES]
        return float(np.median(shifts)) if len(shifts) else np.inf


def agreement(query: Pixels, image: Pixels, matrix: Matrix, *, rounds: int = 1) -> Agreement | None:
    """Correct the map by the pixels, then compare them; None if it leaves nothing to compare."""
    query, image = greyed(query), greyed(image)
    for _ in range(rounds):
        laid, _ = _laid(query, image, matrix)
        if laid is None:
            return None
        motion = affine_motion(displacements(laid.query, laid.image), laid)
        # From the query to the canvas, along it by the motion, and on to the image.
        matrix = compose(compose(compose(matrix, inverse(laid.canvas)), motion), laid.canvas)
    laid, polygon = _laid(query, image, matrix)
    if laid is None:
        return None
    flow = displacements(laid.query, laid.image)
    motion = smooth_motion(flow, laid)
    shifts = np.median(_blocks(np.linalg.norm(flow - motion, axis=2)), axis=(2, 3))
    moved = replace(laid, image=moved_back(laid.image, motion))
    correlations, structured, plain = _compared(moved)
    return Agreement(matrix, polygon, correlations, structured, shifts, plain, laid.canvas)


def _laid(query: Pixels, image: Pixels, matrix: Matrix) -> tuple[Overlay | None, Floats]:
    polygon = shared_polygon(matrix, query.shape[1::-1], image.shape[1::-1])
    if len(polygon) < 3 or np.ptp(polygon, axis=0).min() < LEAST_SIDE:
        return None, polygon
    laid = overlay(query, image, matrix, polygon)
    query, image = equally_sharp(laid.query, laid.image)
    return replace(laid, query=query, image=image), polygon


def _blocks(values: Floats) -> Floats:
    """Return (rows, columns, side, side) blocks; what is left at the edges is dropped."""
    rows, columns = (max(1, length // BLOCK) for length in values.shape[:2])
    side = min(BLOCK, *values.shape[:2])
    cut = values[: rows * side, : columns * side]
    return cut.reshape(rows, side, columns, side).swapaxes(1, 2)


def _compared(laid: Overlay) -> tuple[Floats, NDArray[np.bool_], int]:
    """Return the blocks' correlations, which are structured in both, and how many in neither."""
    a, b = (_blocks(pixels.astype(np.float32)) for pixels in (laid.query, laid.image))
    shared = _blocks(laid.shared.astype(np.float32)).mean(axis=(2, 3)) > LEAST_SHARED
    a, b = (part - part.mean(axis=(2, 3), keepdims=True) for part in (a, b))
    spread_a, spread_b = (np.sqrt((part**2).mean(axis=(2, 3))) for part in (a, b))
    told = shared & (np.maximum(spread_a, spread_b) >= PLAIN)
    correlation = (a * b).mean(axis=(2, 3)) / np.maximum(spread_a * spread_b, 0.25)
    structured = shared & (np.minimum(spread_a, spread_b) >= PLAIN)
    plain = int((shared & ~told).sum())
    return np.where(told, correlation, np.nan).astype(np.float32), structured, plain
