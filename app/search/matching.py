"""Pairs of keypoints of two images that look alike, one to one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Floats, Keypoints

# Lowe's ratio test (2004, section 7.1): how near the best partner must be, as a share of the
# distance to the nearest one elsewhere.
LARGEST_RATIO = 0.87
# Keypoints nearer than this many pixels are one place: SIFT finds one per strong orientation.
SAME_PLACE = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Keypoints of a query and their partners in an image, by index, the surest first."""

    query: Keypoints
    image: Keypoints
    of_query: NDArray[np.int64]
    of_image: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.of_query)


def matched(query: Keypoints, image: Keypoints) -> Pairs:
    """Pair the keypoints that are each other's nearest, and much nearer than any elsewhere."""
    if not len(query) or not len(image):
        nothing = np.empty(0, np.int64)
        return Pairs(query, image, nothing, nothing)
    cosines = query.descriptors @ image.descriptors.T
    partner = cosines.argmax(axis=1)
    rows = np.flatnonzero(cosines.argmax(axis=0)[partner] == np.arange(len(query)))
    ratio = _ratios(cosines[rows], partner[rows], image.places)
    good = np.flatnonzero(ratio < LARGEST_RATIO)
    good = good[np.argsort(ratio[good], kind="stable")]
    return Pairs(query, image, rows[good], partner[rows[good]])


def _ratios(cosines: Floats, partner: NDArray[np.int64], places: Floats) -> Floats:
    """Return the distances to the partners, as shares of those to the nearest elsewhere."""
    best = cosines[np.arange(len(partner)), partner]
    apart = np.abs(places[partner, None] - places[None]).max(axis=2) >= SAME_PLACE
    second = np.where(apart, cosines, -1).max(axis=1, initial=-1)
    return np.sqrt(np.maximum(1 - best, 0) / np.maximum(1 - second, 1e-6))
