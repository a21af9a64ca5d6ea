"""What verification sees of an image: its keypoints and its pixels at thumbnail size."""

from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from app.pictures.decoding import THUMBNAIL_SIDE, dhash
from app.pictures.keypoints import Keypoints, Pixels, find_keypoints
from app.pictures.opencv import opencv
from app.pictures.plainness import SIDE, is_too_plain
from app.pictures.shown import Shown

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
    _kept: list[Shown] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        image: Image.Image,
        *,
        size: tuple[int, int] | None = None,
        keypoints: Keypoints | None = None,
    ) -> "View":
        """Look at an RGB image whose original has this (width, height); it takes about 15 ms.

        Most of that are its `keypoints`, if none are given. A thumbnail, and a `Picture`'s larger
        `image`, have nearly the same.
        """
        width, height = size or image.size
        small = reduced(image, THUMBNAIL_SIDE)
        sample = small.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1)
        return cls(
            width,
            height,
            find_keypoints(image) if keypoints is None else keypoints,
            np.asarray(small),
            dhash(small),
            is_too_plain(sample),
        )

    def keeping_pixels(self) -> "View":
        """Return a view that decodes its thumbnail once, and keeps half a megabyte."""
        return self if self._kept is not None else replace(self, _kept=[])

    def seeing(self, keypoints: Keypoints, shown: Shown) -> "View":
        """Return a view of the same image with other keypoints and pixels, which may be shared."""
        return replace(self, keypoints=keypoints, shown=shown.pixels, _kept=[shown])

    def pixels(self) -> Shown:
        """Return the pixels."""
        if self._kept:
            return self._kept[0]
        pixels = self.shown
        if isinstance(pixels, bytes):
            pixels = _decoded(pixels)
        shown = Shown(pixels)
        if self._kept is not None:
            self._kept.append(shown)
        return shown

    def hashes(self) -> list[int]:
        """Return the difference hashes of the image in eight orientations, made at first use.

        They are those of the image turned anticlockwise by 0, 90, 180 and 270 degrees, and of its
        mirror image turned likewise.
        """
        if not self._hashes:
            self._hashes[:] = _dihedral_hashes(self.pixels().pixels)
        return self._hashes


def _decoded(thumbnail: bytes) -> Pixels:
    # The same pixels as Pillow's, in a quarter of the time.
    cv2 = opencv()
    pixels = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ValueError("a thumbnail cannot be read")
    return pixels


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
