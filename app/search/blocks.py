"""Two images on one canvas, compared block by block."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.pictures.displacement import Motion, moved_back
from app.pictures.keypoints import Floats
from app.pictures.registration import Overlay, block_means

# Blocks are squares of this many pixels of the canvas.
BLOCK = 12
# A block is plain if the grey values in it have a smaller standard deviation, of 255.
PLAIN = 3.0
# Blocks agree from this correlation on.
AGREES = 0.6
# On a ground of one colour, from this one on: words in the same place correlate somewhat.
SURELY_AGREES = 0.8
# What has moved correlates better by this where it has moved to.
LEAST_GAIN = 0.1
# A displacement counts if the block correlates better by this for it: in faint and in blurred
# blocks, it is a guess.
LEAST_GAIN_OF_SHIFT = 0.015
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


class Nearby:
    """Whether blocks show the same a little way off, where the displacements put them.

    It is looked at only if it matters, since that takes time.
    """

    def __init__(self, laid: Overlay, flow: Motion, rest: Motion, blocks: Blocks) -> None:
        self._laid, self._flow, self._blocks = laid, flow, blocks
        self._far = block_means(rest.lengths(), BLOCK)
        self._found: Floats | None = None

    def shifts_within(self, where: NDArray[np.bool_], limits: Mapping[int, float]) -> bool:
        """Return whether percentiles of the shifts of some blocks are no more than their limits.

        A shift is how far a block lies from where a smooth motion puts it, in pixels of the canvas;
        0 where that cannot be told.
        """
        if not where.any():
            return False
        if _within(self._far[where], limits):
            return True
        gained = self._there > self._blocks.correlations + LEAST_GAIN_OF_SHIFT
        return _within(np.where(gained, self._far, 0)[where], limits)

    def moved_more_than(self, share: float) -> bool:
        """Return whether more than this share of the blocks show the same, but not there."""
        here, compared = self._blocks.correlations, max(1, self._blocks.compared)
        if (here < 1 - LEAST_GAIN).sum() <= share * compared:
            return False
        there = self._there
        return bool(
            ((there >= SURELY_AGREES) & (here < there - LEAST_GAIN)).sum() > share * compared
        )

    @property
    def _there(self) -> Floats:
        """The blocks' correlations where the displacements put them."""
        if self._found is None:
            moved = moved_back(self._laid.image, self._flow)
            self._found = compared(replace(self._laid, image=moved)).correlations
        return self._found


def compared(laid: Overlay) -> Blocks:
    """Return the blocks' correlations."""
    query, image = laid.query.astype(np.float32), laid.image.astype(np.float32)
    mean, image_mean = block_means(query, BLOCK), block_means(image, BLOCK)
    spread = _spreads(query, mean)
    image_spread = _spreads(image, image_mean)
    covariance = block_means(query * image, BLOCK) - mean * image_mean
    shared = shared_blocks(laid)
    told = shared & (np.maximum(spread, image_spread) >= PLAIN)
    correlation = np.where(told, covariance / np.maximum(spread * image_spread, 0.25), np.nan)
    structured = shared & (np.minimum(spread, image_spread) >= PLAIN)
    return Blocks(correlation.astype(np.float32), structured)


def shared_blocks(laid: Overlay) -> NDArray[np.bool_]:
    """Return which blocks lie in both images, (rows, columns)."""
    return block_means(laid.shared * np.float32(1), BLOCK) > LEAST_SHARED


def _spreads(values: Floats, mean: Floats) -> Floats:
    """Return the standard deviation in each block."""
    return np.sqrt(np.maximum(block_means(values**2, BLOCK) - mean**2, 0))


def _within(shifts: Floats, limits: Mapping[int, float]) -> bool:
    # Sorted once: NumPy's percentiles take ten times as long.
    ordered = np.sort(shifts)
    last = len(ordered) - 1
    return all(ordered[math.ceil(p / 100 * last)] <= limit for p, limit in limits.items())
