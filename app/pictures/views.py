"""What verification sees of an image: its keypoints and its pixels at thumbnail size."""

from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
from PIL import Image

from app.pictures.decoding import THUMBNAIL_SIDE, dhash
from app.pictures.keypoints import Keypoints, Pixels, find_keypoints
from app.pictures.plainness import SIDE, is_too_plain

# Hashes of turned images are made from this many pixels square; they differ from those of the whole
# by a bit or two.
_HASHED = 72


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An image as verification sees it.

    `width` and `height` are those of the upright original; `shown` is the same image at a short
    side of 256 px or less, as pixels (h, w, 3) or as the thumbnail's bytes, which are decoded only
    if they are needed. `dhash` is its difference hash.
    """

    width: int
    height: int
    keypoints: Keypoints
    shown: Pixels | bytes
    dhash: int
    too_plain: bool = False
    _hashes: list[int] = field(default_factory=list[int], repr=False)
    _decoded: list[Pixels] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, image: Image.Image, *, size: tuple[int, int] | None = None) -> "View":
        """Look at an RGB image whose original has this (width, height); it takes about 15 ms.

        A thumbnail, and a `Picture`'s larger `image`, have nearly the same keypoints.
        """
        width, height = size or image.size
        small = reduced(image, THUMBNAIL_SIDE)
        sample = small.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1)
        return cls(
            width,
            height,
            find_keypoints(image),
            np.asarray(small),
            dhash(small),
            is_too_plain(sample),
        )

    def keeping_pixels(self) -> "View":
        """Return a view that decodes its thumbnail once, and keeps a quarter of a megabyte."""
        return self if self._decoded is not None else replace(self, _decoded=[])

    def pixels(self) -> Pixels:
        """Return the pixels, (h, w, 3)."""
        if not isinstance(self.shown, bytes):
            return self.shown
        if self._decoded:
            return self._decoded[0]
        with Image.open(BytesIO(self.shown)) as thumbnail:
            pixels = np.asarray(thumbnail.convert("RGB"))
        if self._decoded is not None:
            self._decoded.append(pixels)
        return pixels

    def hashes(self) -> list[int]:
        """Return the difference hashes of the image in eight orientations, made at first use.

        They are those of the image turned anticlockwise by 0, 90, 180 and 270 degrees, and of its
        mirror image turned likewise.
        """
        if not self._hashes:
            self._hashes[:] = _dihedral_hashes(self.pixels())
        return self._hashes


def pixels_of(image: Image.Image, side: int) -> Pixels:
    """Return an RGB image's pixels, (h, w, 3), reduced to this short side if it is longer."""
    return np.asarray(reduced(image, side))


def reduced(image: Image.Image, side: int) -> Image.Image:
    """Return an image with this short side, or as it is if that is shorter."""
    scale = side / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=3)


def _dihedral_hashes(pixels: Pixels) -> list[int]:
    small = Image.fromarray(pixels).resize((_HASHED, _HASHED), Image.Resampling.BOX, reducing_gap=2)
    square = np.asarray(small)
    return [
        dhash(Image.fromarray(np.rot90(side, turns)))
        for side in (square, square[:, ::-1])
        for turns in range(4)
    ]
