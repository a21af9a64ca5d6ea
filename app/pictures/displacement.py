"""How far the pixels of two images that lie on each other are apart, and the motion behind it."""

from typing import Any

import numpy as np

from app.pictures.keypoints import Floats, Pixels
from app.pictures.opencv import opencv
from app.pictures.registration import Matrix, Overlay

# The neighbourhood, in pixels, in which brightness and contrast are made equal before displacements
# are looked for.
NEIGHBOURHOOD = 6.0
# Displacements are looked at every so many pixels to find the motion that explains them.
STEP = 6
# An image is blurred like the other one if it is this much sharper.
SHARPER = 1.5
BLURS = (0.8, 1.2, 1.7, 2.4, 3.4, 4.8)


def displacements(query: Pixels, image: Pixels) -> Floats:
    """Return for each pixel, (h, w, 2), how far the image lies from the query there, x and y.

    Differences of light and contrast do not count. Dense inverse search (Kroeger et al., "Fast
    Optical Flow using Dense Inverse Search", ECCV 2016) at half the resolution.
    """
    cv2 = opencv()
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(1)
    flow.setVariationalRefinementIterations(0)
    return flow.calc(_equalised(query), _equalised(image), None)


def equally_sharp(query: Pixels, image: Pixels) -> tuple[Pixels, Pixels]:
    """Blur the sharper one of two images that show the same, so that their details compare."""
    first, second = _sharpness(query), _sharpness(image)
    if first > SHARPER * second:
        return _blurred_to(query, second), image
    if second > SHARPER * first:
        return query, _blurred_to(image, first)
    return query, image


def affine_motion(flow: Floats, laid: Overlay) -> Matrix:
    """Return the affine map, 2 x 3, that explains most of the displacements."""
    x, y, moved, weights = _sampled(flow, laid)
    terms = np.stack([x, y, np.ones(len(x))], axis=1)
    return _robust(terms, moved, weights).T + np.eye(2, 3)


def smooth_motion(flow: Floats, laid: Overlay) -> Floats:
    """Return the displacements, (h, w, 2), of the smooth motion that explains most of them.

    It is a polynomial of the second degree, which a change of perspective nearly is. What stands
    nearer or moves by itself does not follow it.
    """
    x, y, moved, weights = _sampled(flow, laid)
    height, width = flow.shape[:2]
    factors = _robust(_quadratic(x / width, y / height), moved, weights)
    one, across, down, across2, both, down2 = factors.astype(np.float32)
    x, y = (np.arange(n, dtype=np.float32)[:, None] / n for n in (width, height))
    by_column = one + across * x + across2 * x * x
    by_row = down * y + down2 * y * y
    return by_row[:, None] + by_column + both * (y[:, None] * x)


def moved_back(image: Pixels, motion: Floats) -> Pixels:
    """Return the image as it was before the motion."""
    cv2 = opencv()
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    places = (x + motion[..., 0], y + motion[..., 1])
    return cv2.remap(image, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _sampled(flow: Floats, laid: Overlay) -> tuple[Any, Any, Any, Any]:
    """Return x, y, the displacements and weights of shared pixels, in a grid."""
    y, x = np.mgrid[STEP // 2 : flow.shape[0] : STEP, STEP // 2 : flow.shape[1] : STEP]
    keep = laid.shared[y, x]
    if not keep.any():
        keep |= True
    x, y = x[keep], y[keep]
    grey = np.pad(laid.query.astype(np.float32), 1, "edge")
    across, down = grey[y + 1, x + 2] - grey[y + 1, x], grey[y + 2, x + 1] - grey[y, x + 1]
    # Where nothing is to be seen, the displacement is a guess.
    return x, y, flow[y, x], np.hypot(down, across) / 2 + np.float32(0.5)


def _robust(terms: Any, moved: Any, weights: Any) -> Any:
    """Return the factors, (terms, 2), of a least-squares fit that heeds outliers little.

    It begins at rest, since the images already lie nearly right: what is far from that, such as
    where something covers one of them, must not pull first.
    """
    rest = moved
    factors: Any = None
    for tolerance in (3.0, 2.0, 1.0, 1.0, 1.0):
        # Cauchy's weights: what lies `tolerance` off counts half.
        weight: Any = weights / (1 + (rest**2).sum(axis=1) / tolerance**2)
        factors = _fitted(terms, moved, weight)
        rest = moved - terms @ factors
    return factors


def _fitted(terms: Matrix, target: Matrix, weights: Matrix) -> Any:
    weighted = terms * weights[:, None]
    return np.linalg.lstsq(weighted.T @ terms, weighted.T @ target)[0]


def _quadratic(x: Any, y: Any) -> Any:
    return np.stack([np.ones(len(x)), x, y, x * x, x * y, y * y], axis=1)


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
    grey = pixels.astype(np.float32)
    down, across = np.diff(grey, axis=0), np.diff(grey, axis=1)
    return float(((down**2).mean() + (across**2).mean()) / max(float(grey.var()), 1.0))


def _blurred_to(pixels: Pixels, sharpness: float) -> Pixels:
    cv2 = opencv()
    blurred = pixels
    for blur in BLURS:
        blurred = cv2.GaussianBlur(pixels, (0, 0), blur)
        if _sharpness(blurred) <= 1.2 * sharpness:
            break
    return blurred
