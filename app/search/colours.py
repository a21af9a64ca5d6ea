"""Where two images that lie on each other differ in their colours.

An image may be recoloured as a whole, which turns all hues by the same angle; it may be grey, or
paler than the other. But if one thing in it has another colour and the rest has not, it is another
thing: another flavour on the shelf, another shirt.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Pixels

Doubles = NDArray[np.float64]

# Less colour than this, of 255, tells no hue.
LEAST_CHROMA = 14
# Hues differ from this angle on; what makes the others turn is within the smaller one.
DIFFERENT, ALIKE = np.deg2rad(40), np.deg2rad(20)


@dataclass(frozen=True, slots=True, eq=False)
class Hues:
    """The hues of two images, compared block by block.

    `turn` is the angle by which most of them are turned, -pi to pi: 0 if they are the same.
    `others`, (rows, columns), are the blocks whose hues are turned by another angle; those that are
    grey in either image are not among them.
    """

    turn: float
    others: NDArray[np.bool_]

    @classmethod
    def of(cls, query: Pixels, image: Pixels, shared: NDArray[np.bool_]) -> "Hues":
        """Compare two images of one RGB pixel for each block, where they are `shared`."""
        one, other = _chroma(query), _chroma(image)
        told = shared & (np.minimum(np.abs(one), np.abs(other)) > LEAST_CHROMA)
        others = np.zeros(told.shape, bool)
        turns = np.angle(other[told] * one[told].conj()).astype(np.float64)
        if not len(turns):
            return cls(0.0, others)
        weights = np.sqrt(np.abs(one[told] * other[told])).astype(np.float64)
        turn = _commonest(turns, weights)
        others[told] = np.abs((turns - turn + np.pi) % (2 * np.pi) - np.pi) > DIFFERENT
        return cls(turn, others)


def _commonest(turns: Doubles, weights: Doubles) -> float:
    """Return the angle that has most of the weights within `ALIKE` of it."""
    order = np.argsort(turns)
    turns, weights = turns[order], weights[order]
    # Angles go round, so those before the first are the last ones.
    around = np.concatenate([turns - 2 * np.pi, turns, turns + 2 * np.pi])
    sums = np.concatenate([[0], np.cumsum(np.tile(weights, 3))])
    edges = np.searchsorted(around, np.stack([turns - ALIKE, turns + ALIKE])).astype(np.int64)
    first, last = sums[edges]
    return float(turns[(last - first).argmax()])


def _chroma(pixels: Pixels) -> NDArray[np.complexfloating[Any]]:
    """Return colours as complex numbers, whose angle is the hue."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32), 2, 0)
    return (red - (green + blue) / 2) + 1j * (green - blue) * np.float32(np.sqrt(0.75))
