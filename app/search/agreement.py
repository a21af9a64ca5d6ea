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
    block_means,
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
# On a ground of one colour, from this one on: words in the same place correlate somewhat.
SURELY_AGREES = 0.8
LEAST_WITHIN = 6
# What has moved correlates better by this where it has moved to.
LEAST_GAIN = 0.1
GROUND_LEVELS = 4
# A block counts if this share of it lies in both images.
LEAST_SHARED = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The shared part in blocks, (rows, columns).

    `correlations` are those of the grey values, NaN where a block is plain in both images or not
    shared; `structured` says where it is plain in neither.
    """

    correlations: Floats
    structured: NDArray[np.bool_]

    @property
    def agreeing(self) -> int:
        """The number of blocks that agree."""
        return int((self.correlations >= AGREES).sum())

    @property
    def compared(self) -> int:
        """The number of blocks that are shared, and not plain in both."""
        return int(np.isfinite(self.correlations).sum())

    @property
    def share(self) -> float:
        """The share of the compared blocks that agree."""
        return self.agreeing / max(1, self.compared)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well two images agree under `matrix`, from the query's pixels to the image's.

    The shared part is the `polygon` (in the query's pixels). `shifts` say for each of its `blocks`
    how far it lies from where a smooth motion puts it, in pixels of the canvas, to which `canvas`
    maps the query's pixels. `moved` is the share of the blocks that show the same a little way off,
    but not where they are. `ground` is the share of the pixels that have the commonest grey value,
    more or less, in the image where it is smaller.
    """

    matrix: Matrix
    polygon: Floats
    blocks: Blocks
    shifts: Floats
    moved: float
    ground: float
    canvas: Matrix

    @property
    def compared(self) -> int:
        """The number of blocks compared."""
        return self.blocks.compared

    @property
    def share(self) -> float:
        """The share of the compared blocks that agree."""
        return self.blocks.share

    @property
    def replaced(self) -> float:
        """The share of the compared blocks that show something in both images, but not the same."""
        differ = self.blocks.structured & (self.blocks.correlations < SURELY_AGREES)
        return float(differ.sum() / max(1, self.compared))

    def shift(self, percentile: float) -> float:
        """Return a percentile of the shifts of the blocks that agree, in pixels of the canvas.

        Blocks beside others that do not agree are left out, if enough are left.
        """
        agree = self.blocks.correlations >= AGREES
        within = agree & ~_spread(self.blocks.correlations < AGREES)
        shifts = self.shifts[within if within.sum() >= LEAST_WITHIN else agree]
        return float(np.percentile(shifts, percentile)) if len(shifts) else np.inf


def agreement(query: Pixels, image: Pixels, matrix: Matrix, *, rounds: int = 1) -> Agreement | None:
    """Correct the map by the pixels, then compare them; None if it leaves nothing to compare."""
    query, image = greyed(query), greyed(image)
    laid, polygon = _laid(query, image, matrix)
    for _ in range(rounds):
        if laid is None:
            return None
        motion = affine_motion(displacements(laid.query, laid.image), laid)
        # From the query to the canvas, along it by the motion, and on to the image.
        better = compose(compose(compose(matrix, inverse(laid.canvas)), motion), laid.canvas)
        again, shape = _laid(query, image, better)
        # Where much is covered, the motion can be a wrong guess.
        if again is None or _compared(again).share < _compared(laid).share:
            break
        matrix, laid, polygon = better, again, shape
    if laid is None:
        return None
    flow = displacements(laid.query, laid.image)
    motion = smooth_motion(flow, laid)
    choices = [
        (_compared(replace(laid, image=moved)), _shifts(flow - rest))
        for moved, rest in ((moved_back(laid.image, motion), motion), (laid.image, 0))
    ]
    blocks, shifts = max(choices, key=lambda choice: choice[0].share)
    there = _compared(replace(laid, image=moved_back(laid.image, flow)))
    moved = _moved(blocks.correlations, there.correlations)
    ground = min(_ground(pixels[laid.shared]) for pixels in (laid.query, laid.image))
    return Agreement(matrix, polygon, blocks, shifts, moved, ground, laid.canvas)


def _laid(query: Pixels, image: Pixels, matrix: Matrix) -> tuple[Overlay | None, Floats]:
    polygon = shared_polygon(matrix, query.shape[1::-1], image.shape[1::-1])
    if len(polygon) < 3 or np.ptp(polygon, axis=0).min() < LEAST_SIDE:
        return None, polygon
    laid = overlay(query, image, matrix, polygon)
    # What is not shared must not look like a difference: there, both show the image.
    query = np.where(laid.shared, laid.query, laid.image)
    query, image = equally_sharp(query, laid.image)
    return replace(laid, query=query, image=image), polygon


def _ground(greys: Pixels) -> float:
    """Return the share of the pixels that are within a few levels of the commonest grey value."""
    counts = np.bincount(greys, minlength=256)
    near = np.convolve(counts, np.ones(2 * GROUND_LEVELS + 1), "same")
    return float(near.max() / max(1, counts.sum()))


def _shifts(flow: Floats) -> Floats:
    return block_means(np.linalg.norm(flow, axis=2), BLOCK)


def _moved(here: Floats, there: Floats) -> float:
    moved = (there >= SURELY_AGREES) & (here < there - LEAST_GAIN)
    return float(moved.sum() / max(1, np.isfinite(here).sum()))


def _spread(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the blocks that are in `where`, or beside one that is."""
    wide = np.pad(where, 1)
    rows, columns = where.shape
    shifted = [wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.logical_or.reduce(shifted)


def _compared(laid: Overlay) -> Blocks:
    """Return the blocks' correlations."""
    query, image = laid.query.astype(np.float32), laid.image.astype(np.float32)
    mean, image_mean = block_means(query, BLOCK), block_means(image, BLOCK)
    spread = _spreads(query, mean)
    image_spread = _spreads(image, image_mean)
    covariance = block_means(query * image, BLOCK) - mean * image_mean
    shared = block_means(laid.shared.astype(np.float32), BLOCK) > LEAST_SHARED
    told = shared & (np.maximum(spread, image_spread) >= PLAIN)
    correlation = np.where(told, covariance / np.maximum(spread * image_spread, 0.25), np.nan)
    structured = shared & (np.minimum(spread, image_spread) >= PLAIN)
    return Blocks(correlation.astype(np.float32), structured)


def _spreads(values: Floats, mean: Floats) -> Floats:
    """Return the standard deviation in each block."""
    return np.sqrt(np.maximum(block_means(values**2, BLOCK) - mean**2, 0))
