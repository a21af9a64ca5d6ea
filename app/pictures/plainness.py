"""Detects images too plain to tell apart: a single colour, a gradient, an empty page.

Embeddings and difference hashes say nothing about such images: any two would count as copies.
"""

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Images are examined at this size: a word on a page is still visible, noise is gone.
SIDE = 64
# An image is plain if no channel of any pixel differs from its surroundings by more than this,
LARGEST_DETAIL = 8.0
# of 255, and if a surface of this degree fits it with a root mean square error of at most:
LARGEST_REST = 10.0
DEGREE = 4


def is_too_plain(image: Image.Image) -> bool:
    """Return whether an RGB image, reduced to `SIDE` x `SIDE`, has neither detail nor shape."""
    levels = np.asarray(image, np.float32)
    return _detail(levels) <= LARGEST_DETAIL and _rest(levels) <= LARGEST_REST


def _detail(levels: NDArray[np.float32]) -> float:
    """Return the largest difference of a pixel from the mean of its 3 x 3 neighbourhood."""
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    means = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return float(np.abs(levels[1:-1, 1:-1] - means).max())


def _rest(levels: NDArray[np.float32]) -> float:
    """Return the RMS residual of the smooth surface, for the channel that it fits worst."""
    channels = levels.reshape(-1, 3)
    surfaces = _surfaces()
    rest = channels - surfaces @ (surfaces.T @ channels)
    return float(np.sqrt((rest**2).mean(axis=0)).max())


@functools.cache
def _surfaces() -> NDArray[np.float32]:
    """Return an orthonormal basis of the polynomials up to this degree over the image."""
    line = np.linspace(-1, 1, SIDE)
    x, y = (axis.ravel() for axis in np.meshgrid(line, line))
    powers = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    basis, _ = np.linalg.qr(np.stack([x**i * y**j for i, j in powers], axis=1))
    return basis.astype(np.float32)
