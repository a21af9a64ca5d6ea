"""Images whose ground has one colour: paper, a white backdrop, a window, the night.

Most of it agrees with any other on such a ground, so it is the rest that tells whether one is a
copy of the other.
"""

from dataclasses import dataclass

import numpy as np

from app.pictures.keypoints import Pixels
from app.pictures.opencv import opencv

# From this share of both images on, it is what stands on the ground that tells.
LEAST_GROUND = 0.45
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
    of either, of those where it does in one only and the other shows its ground; 0 if the ground
    does not matter.
    """

    share: float
    only_query: float
    only_image: float

    @classmethod
    def of(cls, query: Pixels, image: Pixels, shared: Pixels) -> "Ground":
        """Compare two grey images, (h, w), where they are `shared`, which is 1 there."""
        (share, value), (share_of_image, value_of_image) = (
            _ground(pixels, shared) for pixels in (query, image)
        )
        share = min(share, share_of_image)
        if share < LEAST_GROUND:
            return cls(share, 0.0, 0.0)
        one, other = (
            np.abs(pixels[shared > 0].astype(np.int16) - ground)
            for pixels, ground in ((query, value), (image, value_of_image))
        )
        standing = max(1, int(((one > SOMETHING) | (other > SOMETHING)).sum()))
        return cls(
            share,
            float(((one > SOMETHING) & (other <= NOTHING)).sum() / standing),
            float(((other > SOMETHING) & (one <= NOTHING)).sum() / standing),
        )

    @property
    def matters(self) -> bool:
        """Whether so much is ground that what stands on it tells."""
        return self.share >= LEAST_GROUND

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


def _ground(greys: Pixels, shared: Pixels) -> tuple[float, int]:
    """Return the ground's share of the shared pixels, and its grey value."""
    counts = opencv().calcHist([greys], [0], shared, [256], [0, 256]).ravel()
    near = np.convolve(counts, np.ones(2 * LEVELS + 1), "same")
    value = int(near.argmax())
    return float(near[value] / max(1.0, float(counts.sum()))), value
