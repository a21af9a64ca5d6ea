"""From bytes to a `Picture`: decoded, turned upright, measured and hashed."""

import asyncio
import hashlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from app.pictures.colours import Colour, dominant_colours
from app.problems import DamagedPicture, EmptyPicture, NotAPicture, TooManyPixels

T = TypeVar("T")

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "MPO": "image/jpeg",
}
"""The formats that are read (Pillow's names), each with its media type."""

# Pillow opens an MPO as the JPEG that it begins with, and only then calls it MPO.
OPENED = tuple(name for name in MEDIA_TYPES if name != "MPO")

THUMBNAIL_SIDE = 256
THUMBNAIL_LONGEST_SIDE = 2048
# Pillow shrinks by whole factors first, to this many times the size, and only then with a filter;
# from 3 on, its documentation says, the result is hardly to be told from the filter's alone.
REDUCING_GAP = 3
# Of a region that is smaller than this share of a side, the model sees fewer pixels than it could.
LEAST_REGION = 0.1
# Of the common CLIP models, the largest input is 448 px; most take 224.
LARGEST_MODEL_SIDE = 448

pillow_heif.register_heif_opener()
# The limit is ours (`max_pixels`), checked before decoding; Pillow's only warns at first.
Image.MAX_IMAGE_PIXELS = None

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
    """Decode the first frame of a picture file, for a model that looks at so many pixels a side.

    Raises `EmptyPicture`, `NotAPicture`, `TooManyPixels` (before any pixel is decoded) or
    `DamagedPicture`.
    """
    source = _open(data)
    if source.width * source.height > max_pixels:
        raise TooManyPixels(
            f"The picture has {source.width} x {source.height} pixels; "
            f"this server accepts {max_pixels:,} in all."
        )
    format_name = source.format or ""
    width, height = source.size
    try:
        # Pillow reports what is odd about a file as warnings, and what is wrong with it as nearly
        # any exception: struct.error, SyntaxError, zlib.error, OSError, ValueError, ...
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = source.getexif()
            side = max(THUMBNAIL_SIDE, 2 * model_side)
            source.draft("RGB", (side, side))
            source.load()
            if exif.get(ExifTags.Base.Orientation, 1) >= 5:
                width, height = height, width
            image = _rgb(_shrink(ImageOps.exif_transpose(source), side))
            small = _small(image)
            tags = _readable(exif)
    except MemoryError:
        raise
    except Exception as exc:
        raise DamagedPicture from exc
    return Picture(
        image=small if side <= THUMBNAIL_SIDE else image,
        width=width,
        height=height,
        format=format_name,
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        dhash=dhash(small),
        exif=tags,
        colours=dominant_colours(small),
        thumbnail=jpeg(small),
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


def _open(data: bytes) -> Image.Image:
    if not data:
        raise EmptyPicture
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(BytesIO(data), formats=OPENED)
    except UnidentifiedImageError as exc:
        raise NotAPicture from exc
    except MemoryError:
        raise
    except Exception as exc:
        raise DamagedPicture from exc


def _shrink(image: Image.Image, side: int) -> Image.Image:
    factor = min(image.size) // side
    # Palettes cannot be averaged; they are expanded first.
    if factor < 2 or image.mode in {"P", "PA", "1"}:
        return image
    return image.reduce(factor)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: deep greys scaled to 8 bits, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image, dtype=np.float64))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values = (values - low) / (high - low) * 255
    elif high > 255:
        values = values / 257
    elif high <= 1:
        values = values * 255
    return np.round(values).astype(np.uint8)


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


def _readable(exif: Image.Exif) -> dict[str, str | int | float]:
    """Return the EXIF tags that people read, by name, as JSON can hold them."""
    tags: dict[int, Any] = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    named = _named(tags, ExifTags.TAGS)
    gps = _named(exif.get_ifd(ExifTags.IFD.GPSInfo), ExifTags.GPSTAGS)
    return {**named, **gps}


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> dict[str, str | int | float]:
    readable: dict[str, str | int | float] = {}
    for tag, value in tags.items():
        name, plain = names.get(tag), _plain(value)
        if name is not None and plain is not None:
            readable[name] = plain
    return readable


def _plain(value: object) -> str | int | float | None:
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, str):
        # Postgres' text holds no NUL, and its JSON no lone surrogate.
        text = value.replace("\0", "").encode("utf-8", "replace").decode().strip()
        return text[:1000] or None
    if isinstance(value, tuple):
        parts: list[str] = [str(_plain(part)) for part in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return " ".join(parts)[:1000]
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) else None
