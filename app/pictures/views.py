"""What verification sees of an image: its keypoints and its pixels at thumbnail size."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from app.pictures.decoding import THUMBNAIL_SIDE
from app.pictures.keypoints import Keypoints, Pixels, find_keypoints


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An image as verification sees it.

    `width` and `height` are those of the upright original; `shown` is the same image at a short
    side of 256 px or less, as pixels (h, w, 3) or as the thumbnail's bytes, which are decoded only
    if they are needed.
    """

    width: int
    height: int
    keypoints: Keypoints
    shown: Pixels | bytes

    @classmethod
    def of(cls, image: Image.Image, *, size: tuple[int, int] | None = None) -> "View":
        """Look at an RGB image whose original has this (width, height); it takes about 15 ms.

        A thumbnail, and a `Picture`'s larger `image`, have nearly the same keypoints.
        """
        width, height = size or image.size
        return cls(width, height, find_keypoints(image), np.asarray(_reduced(image)))

    def pixels(self) -> Pixels:
        """Return the pixels, (h, w, 3)."""
        if isinstance(self.shown, bytes):
            with Image.open(BytesIO(self.shown)) as thumbnail:
                return np.asarray(thumbnail.convert("RGB"))
        return self.shown


def _reduced(image: Image.Image) -> Image.Image:
    scale = THUMBNAIL_SIDE / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=3)
