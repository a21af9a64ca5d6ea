"""Whether the pixels of two images agree where a map lays one on the other, block by block."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.pictures.displacement import Motions, displacements, equally_sharp, moved_back
from app.pictures.keypoints import Floats
from app.pictures.opencv import opencv
from app.pictures.registration import (
    Matrix,
    Overlay,
    block_means,
    compose,
    inverse,
    overlay,
    shared_polygon,
    warped,
)
from app.pictures.shown import Look, Shown
from app.search.blocks import (
    AGREES,
    BLOCK,
    SURELY_AGREES,
    Blocks,
    Nearby,
    compared,
    shared_blocks,
)
from app.search.colours import Hues
from app.search.grounds import Ground

# A shared part that is narrower than this, in pixels of the query, shows nothing.
LEAST_SIDE = 16
# Blocks beside others that do not agree count only if there are fewer others than this.
LEAST_WITHIN = 6
# Hues that are turned by this angle or more are another colour scheme.
TURNED = np.deg2rad(20)
# From this share on, no other way to compare can find much more.
SURE_SHARE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well two images agree under `matrix`, from the query's pixels to the image's.

    The shared part is the `polygon` (in the query's pixels). `canvas` maps the query's pixels to
    the canvas that its `blocks` are on.
    """

    matrix: Matrix
    polygon: Floats
    blocks: Blocks
    hues: Hues
    nearby: Nearby
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

    def shifts_within(self, limits: Mapping[int, float]) -> bool:
        """Return whether percentiles of the shifts of the blocks that agree are within limits.

        Blocks beside others that do not agree are left out, if enough are left.
        """
        agree = self.blocks.correlations >= AGREES
        within = agree & ~_spread(self.blocks.correlations < AGREES)
        return self.nearby.shifts_within(within if within.sum() >= LEAST_WITHIN else agree, limits)


def agreement(query: Shown, image: Shown, matrix: Matrix, *, rounds: int = 1) -> Agreement | None:
    """Correct the map by the pixels, then compare them; None if it leaves nothing to compare.

    They are laid anew by the corrected map `rounds` times; maps that are right to two pixels or so
    need none.
    """
    found = _agreement(query, image, matrix, "grey", rounds)
    if found is None or abs(found.hues.turn) < TURNED or found.share >= SURE_SHARE:
        return found
    # Other hues have other grey values; the brightest of the three colours stays the same.
    again = _agreement(query, image, found.matrix, "brightest", rounds=1)
    return found if again is None or again.share <= found.share else again


def _agreement(
    query: Shown, image: Shown, matrix: Matrix, look: Look, rounds: int
) -> Agreement | None:
    """Compare what `look` makes of the pixels."""
    laid, polygon = _laid(query, image, look, matrix)
    for _ in range(rounds):
        if laid is None:
            return None
        better = _corrected(matrix, laid, Motions(displacements(laid.query, laid.image), laid))
        again, shape = _laid(query, image, look, better)
        # Where much is covered, the motion can be a wrong guess.
        if again is None or compared(again).share < compared(laid).share:
            break
        matrix, laid, polygon = better, again, shape
    if laid is None:
        return None
    flow = displacements(laid.query, laid.image)
    motions = Motions(flow, laid)
    motion = motions.smooth()
    blocks, rest = compared(replace(laid, image=moved_back(laid.image, motion))), flow - motion
    if blocks.share < SURE_SHARE:
        still = compared(laid)
        if still.share > blocks.share:
            blocks, rest = still, flow
    return Agreement(
        matrix if rounds else _corrected(matrix, laid, motions),
        polygon,
        blocks,
        _hues(query, image, matrix, laid),
        Nearby(laid, flow, rest, blocks),
        Ground.of(laid.query, laid.image, laid.shared),
        laid.canvas,
    )


def _corrected(matrix: Matrix, laid: Overlay, motions: Motions) -> Matrix:
    # From the query to the canvas, along it by the motion, and on to the image.
    moved = compose(motions.affine(), laid.canvas)
    return compose(compose(matrix, inverse(laid.canvas)), moved)


def _hues(query: Shown, image: Shown, matrix: Matrix, laid: Overlay) -> Hues:
    rows, columns = (max(1, length // BLOCK) for length in laid.shared.shape)
    # Hues need a quarter of the canvas' pixels each way.
    canvas = laid.canvas / 4
    maps = canvas, compose(canvas, inverse(matrix))
    size = columns * BLOCK // 4, rows * BLOCK // 4
    means = [
        block_means(warped(shown, "colours", m, size), BLOCK // 4)
        for shown, m in zip((query, image), maps, strict=True)
    ]
    return Hues.of(means[0], means[1], shared_blocks(laid))


def _laid(query: Shown, image: Shown, look: Look, matrix: Matrix) -> tuple[Overlay | None, Floats]:
    polygon = shared_polygon(matrix, query.size, image.size)
    if len(polygon) < 3 or np.ptp(polygon, axis=0).min() < LEAST_SIDE:
        return None, polygon
    laid = overlay(query, image, look, matrix, polygon)
    # What is not shared must not look like a difference: there, both show the image.
    one = opencv().copyTo(laid.query, laid.shared, laid.image.copy())
    one, other = equally_sharp(one, laid.image)
    return replace(laid, query=one, image=other), polygon


def _spread(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the blocks that are in `where`, or beside one that is."""
    return opencv().dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
