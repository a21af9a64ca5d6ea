"""Photos as tensors: stored bytes, pixels in 0..1, and the image tower's normalised inputs."""

from torch import Tensor

# The side of an input in pixels, and the mean and deviation that normalise it.
INPUT = 128
MEAN, STD = 0.45, 0.25


def as_pixels(photos: Tensor) -> Tensor:
    """Return stored bytes, (n, side, side, 3), as pixels in 0..1, (n, 3, side, side)."""
    return photos.permute(0, 3, 1, 2).float() / 255


def pixels_of_inputs(x: Tensor) -> Tensor:
    """Return the pixels in 0..1 that network inputs were made from."""
    return x * STD + MEAN


def inputs_of_pixels(x: Tensor) -> Tensor:
    """Return network inputs made from pixels, clipped to 0..1."""
    return (x.clamp(0, 1) - MEAN) / STD
