"""Whether the pixels of two images agree where a map lays one on the other, block by block."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

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
from app.pictures.opencv import opencv
from app.pictures.registration import (
    Matrix,
    Overlay,
    block_means,
    brightest,
    compose,
    greyed,
    inverse,
    overlay,
    shared_polygon,
    warped,
)
from app.search.colours import Hues
from app.search.grounds import Ground

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
# A displacement counts if the block correlates better by this for it: in faint and in blurred
# blocks, it is a guess.
LEAST_GAIN_OF_SHIFT = 0.015
# Hues that are turned by this angle or more are another colour scheme.
TURNED = np.deg2rad(20)
# A block counts if this share of it lies in both images.
LEAST_SHARED = 0.75

Look: TypeAlias = Callable[[Pixels], Pixels]
"""From RGB pixels, (h, w, 3), to those that are compared, (h, w)."""


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
    maps the query's pixels; 0 where that cannot be told. `moved` is the share of the blocks that
    show the same a little way off, but not where they are.
    """

    matrix: Matrix
    polygon: Floats
    blocks: Blocks
    hues: Hues
    shifts: Floats
    moved: float
    ground: Ground
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
    def recoloured(self) -> NDArray[np.bool_]:
        """Which blocks do not differ but in their colour, (rows, columns)."""
        return self.hues.others & ~(self.blocks.correlations < AGREES)

    @property
    def differing(self) -> NDArray[np.bool_]:
        """Which blocks differ, (rows, columns)."""
        return self.hues.others | (self.blocks.correlations < AGREES)

    @property
    def replaced(self) -> float:
        """The share of the compared blocks that show something in both images, but not the same."""
        differ = self.blocks.structured & (self.blocks.correlations < SURELY_AGREES)
        return float((differ | self.recoloured).sum() / max(1, self.compared))

    @property
    def recoloured_share(self) -> float:
        """The share of the compared blocks that agree, but for their colour."""
        agree = self.blocks.correlations >= AGREES
        return float((self.hues.others & agree).sum() / max(1, self.compared))

    @property
    def largest_replaced(self) -> float:
        """The same as `replaced`, of the largest group of blocks that touch each other.

        Those that correlate somewhat do not count.
        """
        differ = self.blocks.structured & (self.blocks.correlations < AGREES)
        _, _, stats, _ = opencv().connectedComponentsWithStats(differ.astype(np.uint8))
        # The first is what does not differ, and the last column the number of blocks.
        return float(max(stats[1:, -1], default=0) / max(1, self.compared))

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
    found = _agreement(query, image, matrix, greyed, rounds)
    if found is None or abs(found.hues.turn) < TURNED:
        return found
    # Other hues have other grey values; the brightest of the three colours stays the same.
    again = _agreement(query, image, found.matrix, brightest, rounds=1)
    return found if again is None or again.share <= found.share else again


def _agreement(
    query: Pixels, image: Pixels, matrix: Matrix, look: Look, rounds: int
) -> Agreement | None:
    """Compare what `look` makes of the pixels."""
    one, other = look(query), look(image)
    laid, polygon = _laid(one, other, matrix)
    for _ in range(rounds):
        if laid is None:
            return None
        motion = affine_motion(displacements(laid.query, laid.image), laid)
        # From the query to the canvas, along it by the motion, and on to the image.
        better = compose(compose(compose(matrix, inverse(laid.canvas)), motion), laid.canvas)
        again, shape = _laid(one, other, better)
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
    there = _compared(replace(laid, image=moved_back(laid.image, flow))).correlations
    gained = there > blocks.correlations + LEAST_GAIN_OF_SHIFT
    return Agreement(
        matrix,
        polygon,
        blocks,
        _hues(query, image, matrix, laid),
        np.where(gained, shifts, 0),
        _moved(blocks.correlations, there),
        Ground.of(laid.query, laid.image, laid.shared),
        laid.canvas,
    )


def _hues(query: Pixels, image: Pixels, matrix: Matrix, laid: Overlay) -> Hues:
    rows, columns = (max(1, length // BLOCK) for length in laid.shared.shape)
    # Hues need a quarter of the canvas' pixels each way.
    canvas = compose(np.array([[0.25, 0, 0], [0, 0.25, 0]]), laid.canvas)
    maps = canvas, compose(canvas, inverse(matrix))
    size = columns * BLOCK // 4, rows * BLOCK // 4
    means = [
        block_means(warped(pixels, m, size), BLOCK // 4)
        for pixels, m in zip((query, image), maps, strict=True)
    ]
    shared = block_means(laid.shared.astype(np.float32), BLOCK) > LEAST_SHARED
    return Hues.of(means[0], means[1], shared)


def _laid(query: Pixels, image: Pixels, matrix: Matrix) -> tuple[Overlay | None, Floats]:
    polygon = shared_polygon(matrix, query.shape[1::-1], image.shape[1::-1])
    if len(polygon) < 3 or np.ptp(polygon, axis=0).min() < LEAST_SIDE:
        return None, polygon
    laid = overlay(query, image, matrix, polygon)
    # What is not shared must not look like a difference: there, both show the image.
    query = np.where(laid.shared, laid.query, laid.image)
    query, image = equally_sharp(query, laid.image)
    return replace(laid, query=query, image=image), polygon


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
