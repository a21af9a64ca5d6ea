"""From bytes to a `Picture`: decoded, turned upright, measured and hashed."""

import asyncio
import hashlib
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image

from app.pictures.colours import Colour, dominant_colours
from app.pictures.containers import take_apart
from app.pictures.opening import ANIMATED, later_frames, load
from app.pictures.pixels import is_blank, shown
from app.pictures.plainness import SIDE, is_too_plain
from app.pictures.tags import Block, named_tags, orientation
from app.problems import DamagedPicture, EmptyPicture, PictureProblem, TooManyPixels

T = TypeVar("T")

# Counted up whenever files are decoded to other pixels than before; what is indexed is then better
# read again. 1: profiles, deep grey, grounds for transparency, blank first frames, cut files.
DECODER = 1

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    # Rows of version 0.1 have this for what is a JPEG with further pictures in it.
    "MPO": "image/jpeg",
}
"""The formats that are read (Pillow's names), each with its media type."""

THUMBNAIL_SIDE = 256
THUMBNAIL_LONGEST_SIDE = 2048
# Pillow shrinks by whole factors first, to this many times the size, and only then with a filter;
# from 3 on, its documentation says, the result is hardly to be told from the filter's alone.
REDUCING_GAP = 3
# Of a region that is smaller than this share of a side, the model sees fewer pixels than it could.
LEAST_REGION = 0.1
# Of the common CLIP models, the largest input is 448 px; most take 224.
LARGEST_MODEL_SIDE = 448

SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in MEDIA_TYPES
)
"""What the names of such files end in, in lower case."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept of a picture.

    `width` and `height` are the upright picture's own. `dhash` is a signed 64-bit integer.
    `colours` are the dominant ones.
    `thumbnail` is a JPEG of 256 px on the short side, or of the picture's own size if smaller.
    `truncated` says that the file ends early or is damaged, and some pixels may be missing;
    `too_plain`, that it looks like too many others to be called a copy of one. `decoder` is the
    version that read it.
    """

    width: int
    height: int
    format: str
    sha256: str
    file_bytes: int
    dhash: int
    exif: dict[str, str | int | float]
    colours: list[Colour]
    thumbnail: bytes
    truncated: bool = field(default=False, kw_only=True)
    too_plain: bool = field(default=False, kw_only=True)
    decoder: int = field(default=DECODER, kw_only=True)


@dataclass(frozen=True, slots=True)
class Picture(Facts):
    """A decoded picture.

    `image` is RGB and upright, shrunk so that its short side is twice what the model looks at, or
    more, unless it was less.
    """

    image: Image.Image


@dataclass(frozen=True, slots=True)
class Crop:
    """A region of an upright picture, in fractions, 0 to 1, of its width and height."""

    x: float
    y: float
    width: float
    height: float

    def of(self, image: Image.Image) -> Image.Image:
        """Return the region, of at least one pixel."""
        left = min(round(self.x * image.width), image.width - 1)
        top = min(round(self.y * image.height), image.height - 1)
        right = max(left + 1, round((self.x + self.width) * image.width))
        bottom = max(top + 1, round((self.y + self.height) * image.height))
        return image.crop((left, top, min(right, image.width), min(bottom, image.height)))


class Decoder:
    """Decodes pictures in the threads it is given, so that no one else waits."""

    def __init__(
        self, threads: Executor, *, max_pixels: int, model_side: int = LARGEST_MODEL_SIDE
    ) -> None:
        self._threads = threads
        self._max_pixels = max_pixels
        self._model_side = model_side

    async def decode(
        self, data: bytes, *, crop: Crop | None = None, short_side: int = 0
    ) -> Picture:
        """Decode `data`, or a region of it; raises what `decode` raises.

        Its `image` has `short_side` pixels or more on the short side, unless the file has less.
        """

        def work() -> Picture:
            # Of a region, the model is to see as many pixels as of a whole picture.
            side = self._model_side / max(LEAST_REGION, min(crop.width, crop.height) if crop else 1)
            picture = decode(
                data, max_pixels=self._max_pixels, model_side=max(round(side), short_side // 2)
            )
            return replace(picture, image=crop.of(picture.image)) if crop else picture

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def decode_and(
        self, data: bytes, prepare: Callable[[Image.Image], T]
    ) -> tuple[Picture, T]:
        """Decode `data`, and prepare the picture in the same thread, without another way there."""

        def work() -> tuple[Picture, T]:
            picture = decode(data, max_pixels=self._max_pixels, model_side=self._model_side)
            return picture, prepare(picture.image)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def decode(data: bytes, *, max_pixels: int, model_side: int = LARGEST_MODEL_SIDE) -> Picture:
    """Decode a picture file for a model that looks at so many pixels a side.

    Of an animation, the first frame that is not blank counts.

    Raises `EmptyPicture`, `NotAPicture`, `TooManyPixels` (before any pixel is decoded) or
    `DamagedPicture`.
    """
    if not data:
        raise EmptyPicture
    try:
        # Pillow reports what is odd about a file as warnings, and what is wrong with it as nearly
        # any exception: struct.error, SyntaxError, zlib.error, OSError, ValueError, ...
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, max_pixels=max_pixels, side=max(THUMBNAIL_SIDE, 2 * model_side))
    except (MemoryError, PictureProblem):
        raise
    except Exception as exc:
        raise DamagedPicture from exc


def _decode(data: bytes, *, max_pixels: int, side: int) -> Picture:
    parts, size = take_apart(data), (0, 0)

    def accept(told: tuple[int, int]) -> None:
        nonlocal size
        size = width, height = told
        if width * height > max_pixels:
            raise TooManyPixels(
                f"The picture has {width} x {height} pixels; "
                f"this server accepts {max_pixels:,} in all."
            )

    loaded = load(parts.pixels, side=side, accept=accept)
    source = loaded.image
    exif = Block(parts.exif or source.info.get("exif") or b"")
    # HEIF's own turning is done by its decoder, and what EXIF says of it has no meaning.
    turn = orientation(exif) if source.format != "HEIF" else 1
    profile = parts.profile or source.info.get("icc_profile") or b""
    image = shown(source, side=side, turn=turn, profile=profile)
    if source.format in ANIMATED and is_blank(image):
        # The frames after it take its place in the memory.
        image = image.copy()
        image = next(
            (
                frame
                for later in later_frames(source, max_pixels=max_pixels)
                if not is_blank(frame := shown(later, side=side, turn=turn, profile=profile))
            ),
            image,
        )
    small = _small(image)
    sample = small.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1)
    width, height = size if turn < 5 else size[::-1]
    return Picture(
        image=small if side <= THUMBNAIL_SIDE else image,
        width=width,
        height=height,
        format=source.format or "",
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        dhash=dhash(small),
        exif=named_tags(exif),
        colours=dominant_colours(sample),
        thumbnail=jpeg(small),
        truncated=loaded.is_truncated or parts.ends_early,
        too_plain=is_too_plain(sample),
    )


def dhash(image: Image.Image) -> int:
    """Return the 64-bit difference hash of a picture, as a signed integer (Postgres' bigint).

    Each bit says whether a pixel of the 9 x 8 grey miniature is darker than its right neighbour
    (N. Krawetz, "Kind of Like That", 2013).
    """
    small = image.resize((9, 8), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    grey = np.asarray(small.convert("L"))
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def hamming(a: int, b: int) -> int:
    """Return the number of bits, 0 to 64, in which two hashes differ."""
    return ((a ^ b) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _small(image: Image.Image) -> Image.Image:
    scale = min(1, THUMBNAIL_SIDE / min(image.size), THUMBNAIL_LONGEST_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Hamming is as sharp as bicubic when shrinking, at half its cost (Pillow's "Filters").
    return image.resize((width, height), Image.Resampling.HAMMING)


def jpeg(image: Image.Image) -> bytes:
    """Return an RGB picture as a JPEG file."""
    out = BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
