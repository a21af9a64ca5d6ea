"""How far the pixels of two images that lie on each other are apart, and the motion behind it."""

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.pictures.keypoints import Floats, Pixels
from app.pictures.opencv import opencv
from app.pictures.registration import Matrix, Overlay

# The neighbourhood, in pixels, in which brightness and contrast are made equal before displacements
# are looked for.
NEIGHBOURHOOD = 6.0
# Patches whose displacements are looked for, at half the resolution, are so far apart, and each is
# refined so many times. OpenCV's 4 and 16 take half as long again.
PATCHES_APART, REFINEMENTS = 5, 8
# Displacements are looked at every so many pixels to find the motion that explains them.
STEP = 6
# An image is blurred like the other one if it is this much sharper.
SHARPER = 1.5
BLURS = (0.8, 1.2, 1.7, 2.4, 3.4, 4.8)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How far each pixel of a canvas lies off, (h, w) each, x and y."""

    x: Floats
    y: Floats

    def __sub__(self, other: "Motion") -> "Motion":
        return Motion(self.x - other.x, self.y - other.y)

    def lengths(self) -> Floats:
        """Return how far that is in all."""
        return opencv().magnitude(self.x, self.y)


_local = threading.local()


def displacements(query: Pixels, image: Pixels) -> Motion:
    """Return for each pixel how far the image lies from the query there.

    Differences of light and contrast do not count. Dense inverse search (Kroeger et al., "Fast
    Optical Flow using Dense Inverse Search", ECCV 2016) at half the resolution.
    """
    cv2 = opencv()
    flow: Any = _local.__dict__.get("flow")
    if flow is None:
        # One for each thread: OpenCV's algorithms must not be shared.
        flow = _local.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow.setFinestScale(1)
        flow.setVariationalRefinementIterations(0)
        flow.setPatchStride(PATCHES_APART)
        flow.setGradientDescentIterations(REFINEMENTS)
    return Motion(*cv2.split(flow.calc(_equalised(query), _equalised(image), None)))


def equally_sharp(query: Pixels, image: Pixels) -> tuple[Pixels, Pixels]:
    """Blur the sharper one of two images that show the same, so that their details compare."""
    first, second = _sharpness(query), _sharpness(image)
    if first > SHARPER * second:
        return _blurred_to(query, second), image
    if second > SHARPER * first:
        return query, _blurred_to(image, first)
    return query, image


class Motions:
    """What explains most of the displacements between two images that lie on each other.

    What stands nearer or moves by itself does not follow it.
    """

    def __init__(self, flow: Motion, laid: Overlay) -> None:
        sampled = slice(STEP // 2, None, STEP)
        self._shape = laid.query.shape
        across, down = (side[sampled, sampled].ravel() for side in (flow.x, flow.y))
        self._moved = np.stack([across, down], axis=1).astype(np.float64)
        shared = laid.shared[sampled, sampled]
        self._weights = _visible(laid.query) * (shared.ravel() if shared.any() else 1)

    def affine(self) -> Matrix:
        """Return the affine map, 2 x 3."""
        factors = _robust(_terms(self._shape)[:3], self._moved, self._weights)
        height, width = self._shape
        # From shares of the canvas to its pixels.
        return factors.T[:, [1, 2, 0]] / [width, height, 1] + np.eye(2, 3)

    def smooth(self) -> Motion:
        """Return the polynomial of the second degree, which a change of perspective nearly is."""
        factors = _robust(_terms(self._shape), self._moved, self._weights)
        height, width = self._shape
        x, y = _powers(width), _powers(height)
        planes: list[Floats] = []
        for one, across, down, across2, both, down2 in factors.T:
            by_power = np.array([[one, across, across2], [down, both, 0], [down2, 0, 0]])
            plane: Any = y.T @ (by_power.astype(np.float32) @ x)
            planes.append(plane)
        return Motion(*planes)


def moved_back(image: Pixels, motion: Motion) -> Pixels:
    """Return the image as it was before the motion."""
    cv2 = opencv()
    x, y = _grid(image.shape[:2])
    return cv2.remap(
        image, x + motion.x, y + motion.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


# Most overlays have one of a few shapes.
@functools.lru_cache(32)
def _grid(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return x and y of each pixel, (h, w)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


@functools.lru_cache(32)
def _terms(shape: tuple[int, int]) -> Any:
    """Return 1, x, y, x², xy and y² of the pixels that are looked at, (6, n), x and y 0 to 1."""
    y, x = np.mgrid[STEP // 2 : shape[0] : STEP, STEP // 2 : shape[1] : STEP]
    x, y = x.ravel() / shape[1], y.ravel() / shape[0]
    return np.stack([np.ones(len(x)), x, y, x * x, x * y, y * y])


@functools.lru_cache(64)
def _powers(length: int) -> Floats:
    """Return 1, x and x² of pixels along a side, (3, length), x 0 to 1."""
    return np.vander(np.arange(length) / length, 3, increasing=True).T.astype(np.float32)


def _visible(grey: Pixels) -> Any:
    """Return weights of the pixels that are looked at: the gradients there.

    Where nothing is to be seen, the displacement is a guess.
    """
    cv2 = opencv()
    wide = cv2.copyMakeBorder(grey, 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.float32)
    # The pixels that are looked at, in y and in x, and those before and after them.
    (y, up, below), (x, left, right) = (
        [slice(STEP // 2 + i, length + i, STEP) for i in (1, 0, 2)] for length in grey.shape
    )
    across, down = wide[y, right] - wide[y, left], wide[below, x] - wide[up, x]
    return np.hypot(across, down).ravel() / 2 + 0.5


def _robust(terms: Any, moved: Any, weights: Any) -> Any:
    """Return the factors, (terms, 2), of a least-squares fit that heeds outliers little.

    It begins at rest, since the images already lie nearly right: what is far from that, such as
    where something covers one of them, must not pull first.
    """
    rest = moved
    factors: Any = None
    # Kept solvable where few pixels are shared.
    ridge = np.eye(len(terms)) * 1e-9 * float(weights.sum())
    for tolerance in (3.0, 2.0, 1.0, 1.0, 1.0):
        # Cauchy's weights: what lies `tolerance` off counts half.
        weighted: Any = terms * (weights / (1 + (rest * rest).sum(axis=1) / tolerance**2))
        factors = _solved(weighted @ terms.T + ridge, weighted @ moved)
        rest = moved - terms.T @ factors
    return factors


def _solved(square: Matrix, target: Matrix) -> Any:
    return np.linalg.solve(square, target)


def _equalised(pixels: Pixels) -> Pixels:
    """Return a grey image with the same mean and spread in every neighbourhood."""
    cv2 = opencv()
    grey = pixels.astype(np.float32)
    off = cv2.subtract(grey, _smoothed(grey))
    spread = cv2.sqrt(_smoothed(cv2.multiply(off, off))) + 4
    return cv2.convertScaleAbs(cv2.divide(off, spread), alpha=48, beta=128)


def _smoothed(values: Floats) -> Floats:
    """Return means over the neighbourhood, made from a quarter of the pixels each way."""
    cv2 = opencv()
    height, width = values.shape
    small = (max(1, width // 4), max(1, height // 4))
    reduced = cv2.resize(values, small, interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(reduced, (0, 0), NEIGHBOURHOOD / 4)
    return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)


def _sharpness(pixels: Pixels) -> float:
    """Return the energy of the gradients as a share of that of the grey values."""
    cv2 = opencv()
    energy = 0.0
    for one, other in ((pixels[1:], pixels[:-1]), (pixels[:, 1:], pixels[:, :-1])):
        energy += cv2.norm(one, other, cv2.NORM_L2SQR) / max(1, one.size)
    _, spread = cv2.meanStdDev(pixels)
    return energy / max(float(spread[0, 0]) ** 2, 1.0)


def _blurred_to(pixels: Pixels, sharpness: float) -> Pixels:
    cv2 = opencv()
    blurred = pixels
    for blur in BLURS:
        blurred = cv2.GaussianBlur(pixels, (0, 0), blur)
        if _sharpness(blurred) <= 1.2 * sharpness:
            break
    return blurred
