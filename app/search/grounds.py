"""Images whose ground has one colour: paper, a white backdrop, a window, the night.

Most of it agrees with any other on such a ground, so it is the rest that tells whether one is a
copy of the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.pictures.keypoints import Pixels

# The ground has the commonest grey value, give or take this. Something stands on it where the value
# is further off than `SOMETHING`, and nothing does within `NOTHING`.
LEVELS, NOTHING, SOMETHING = 4, 12, 36
# One image only was added to if it shows at least this share of what stands on the ground alone,
LEAST_ADDED = 0.04
# and the other, no more than this part of it.
MOST_RETURNED = 0.01
# If each shows more than this alone, they show different things.
LEAST_EXCHANGED = 0.002


@dataclass(frozen=True, slots=True)
class Ground:
    """What is ground in two images that lie on each other, and what stands on it.

    `share` is the share of the pixels that are ground, in the image where it is smaller.
    `only_query` and `only_image` are the shares, of the pixels where something stands on the ground
    of either, of those where it does in one only and the other shows its ground.
    """

    share: float
    only_query: float
    only_image: float

    @classmethod
    def of(cls, query: Pixels, image: Pixels, shared: NDArray[np.bool_]) -> "Ground":
        """Compare two grey images, (h, w), where they are `shared`."""
        (share, one), (share_of_image, other) = (_ground(p[shared]) for p in (query, image))
        standing = max(1, int(((one > SOMETHING) | (other > SOMETHING)).sum()))
        return cls(
            min(share, share_of_image),
            float(((one > SOMETHING) & (other <= NOTHING)).sum() / standing),
            float(((other > SOMETHING) & (one <= NOTHING)).sum() / standing),
        )

    @property
    def is_exchanged(self) -> bool:
        """Whether each shows something where the other has nothing, such as other words."""
        return min(self.only_query, self.only_image) > LEAST_EXCHANGED

    @property
    def is_added_to(self) -> bool:
        """Whether one of the images shows all of the other and something more.

        So does a picture with a caption.
        """
        less, more = sorted((self.only_query, self.only_image))
        return more >= LEAST_ADDED and less <= MOST_RETURNED * more


def _ground(greys: Pixels) -> tuple[float, NDArray[np.int16]]:
    """Return the ground's share of some pixels, and how far each is from its grey value."""
    counts = np.bincount(greys, minlength=256)
    near = np.convolve(counts, np.ones(2 * LEVELS + 1), "same")
    value = int(near.argmax())
    return float(near[value] / max(1, counts.sum())), np.abs(greys.astype(np.int16) - value)
