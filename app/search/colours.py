"""Where two images that lie on each other differ in their colours.

An image may be recoloured as a whole, which turns all hues by the same angle; it may be grey, or
paler than the other. But if one thing in it has another colour and the rest has not, it is another
thing: another flavour on the shelf, another shirt.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Floats, Pixels
from app.pictures.registration import block_means

# Less colour than this, of 255, tells no hue.
LEAST_CHROMA = 14
# Hues differ from this angle on; what makes the others turn is within the smaller one.
DIFFERENT, ALIKE = np.deg2rad(40), np.deg2rad(20)
LEAST_SHARED = 0.75


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
    def of(cls, query: Pixels, image: Pixels, shared: NDArray[np.bool_], *, block: int) -> "Hues":
        """Compare RGB images, (h, w, 3), where they are `shared`, in blocks of so many pixels."""
        one, other = _chroma(query, block), _chroma(image, block)
        told = block_means(shared.astype(np.float32), block) > LEAST_SHARED
        told &= np.minimum(np.abs(one), np.abs(other)) > LEAST_CHROMA
        others = np.zeros(told.shape, bool)
        turns = np.angle(other[told] * one[told].conj())
        if not len(turns):
            return cls(0.0, others)
        weights = np.sqrt(np.abs(one[told] * other[told]))
        apart = np.abs((turns[:, None] - turns + np.pi) % (2 * np.pi) - np.pi)
        commonest = int(((apart < ALIKE) * weights).sum(axis=1).argmax())
        others[told] = apart[commonest] > DIFFERENT
        return cls(float(turns[commonest]), others)


def _chroma(pixels: Pixels, block: int) -> NDArray[np.complexfloating[Any]]:
    """Return the mean colours of blocks as complex numbers, whose angle is the hue."""
    means: list[Floats] = [
        block_means(np.ascontiguousarray(pixels[..., i]).astype(np.float32), block)
        for i in range(3)
    ]
    red, green, blue = means
    return (red - (green + blue) / 2) + 1j * (green - blue) * np.float32(np.sqrt(0.75))
