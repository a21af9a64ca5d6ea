"""Whether a picture is too plain to be told from others: one colour, a gradient, an empty page.

A vector and a difference hash say nothing of such a picture: any two of them would be copies.
"""

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A picture is looked at this small: a word on a page is still there, noise is gone.
SIDE = 64
# It is plain if no pixel differs from those around it by more levels, of 255, in any channel,
LARGEST_DETAIL = 8.0
# and if it is, but for a root mean square of so many levels, a smooth surface of this degree.
LARGEST_REST = 10.0
DEGREE = 4


def is_too_plain(image: Image.Image) -> bool:
    """Return whether an RGB picture, shrunk to `SIDE` x `SIDE`, has neither detail nor shape."""
    levels = np.asarray(image, np.float32)
    return _detail(levels) <= LARGEST_DETAIL and _rest(levels) <= LARGEST_REST


def _detail(levels: NDArray[np.float32]) -> float:
    """Return the most that a pixel differs from the mean of the 3 x 3 pixels around it."""
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    means = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return float(np.abs(levels[1:-1, 1:-1] - means).max())


def _rest(levels: NDArray[np.float32]) -> float:
    """Return what a smooth surface leaves of the channel that it fits worst."""
    channels = levels.reshape(-1, 3)
    surfaces = _surfaces()
    rest = channels - surfaces @ (surfaces.T @ channels)
    return float(np.sqrt((rest**2).mean(axis=0)).max())


@functools.cache
def _surfaces() -> NDArray[np.float32]:
    """Return an orthonormal basis of the polynomials of this degree over the picture."""
    line = np.linspace(-1, 1, SIDE)
    x, y = (axis.ravel() for axis in np.meshgrid(line, line))
    powers = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    basis, _ = np.linalg.qr(np.stack([x**i * y**j for i, j in powers], axis=1))
    return basis.astype(np.float32)
