"""Opening and loading files with Pillow: supported formats, truncated files, frames."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import pillow_heif
from PIL import Image, ImageFile, UnidentifiedImageError

from app.pictures.containers import webp_size
from app.pictures.costs import Limits, refuse_tiff_scans
from app.pictures.tags import Block
from app.pictures.truncation import (
    Completion,
    completed_jpeg,
    completion_of,
    missing_share,
    refuse_if_most_is_missing,
    show_rows_twice,
    undrawn_share,
)
from app.problems import DamagedPicture, NotAPicture, PictureProblem

OPENED = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
# How many frames of an animation are searched for one that is not blank, as long as together they
# have no more pixels than an image may have.
MOST_FRAMES = 32
# The library rejects an AVIF with an unreadable EXIF item (ISO/IEC 14496-12, 8.11.6: version,
# flags, id, protection, type), but skips items of an unknown type.
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}(?:.{4}|.{6}))Exif", re.DOTALL)
# The grey with which JPEG decoders fill missing blocks.
_FILLING = (128, (128, 128, 128))

pillow_heif.register_heif_opener()
# We check our own limit (`max_pixels`) before decoding; Pillow's at first only warns.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """An opened file with the pixels of its first frame, possibly incomplete."""

    image: ImageFile.ImageFile
    is_truncated: bool = False


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Open a file of any supported format; raises `NotAPicture` or `DamagedPicture`."""
    try:
        return _open(data)
    except PictureProblem:
        without = _EXIF_ITEM.sub(rb"\1skip", data) if data[4:8] == b"ftyp" else data
        if without == data:
            raise
        return _open(without)


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(BytesIO(data), formats=OPENED)
    except UnidentifiedImageError as exc:
        raise DamagedPicture if Block(data).is_cut else NotAPicture from exc
    except MemoryError:
        raise
    except Exception as exc:
        raise DamagedPicture from exc


def load(data: bytes, limits: Limits) -> Loaded:
    """Load the first frame of a file; JPEGs may be reduced to no less than `limits.side` a side.

    Before any pixel is decoded, the limits are told the size, and then what it takes. Raises what
    they raise, `NotAPicture` or `DamagedPicture`.
    """
    # Pillow allocates memory for a whole WebP as soon as it opens it.
    limits.accept(webp_size(data))
    limits.reserve_webp(webp_size(data))
    completion = completion_of(data)
    if completion is not None:
        return _load_completed(completion, limits)
    image = open_image(data)
    limits.accept(image.size)
    refuse_tiff_scans(image, data)
    try:
        if getattr(image, "default_image", False):
            # The current frame is an animated PNG's fallback for viewers without animation.
            image.seek(1)
        image.draft("RGB", (limits.side, limits.side))
        limits.reserve(image)
        image.load()
    except (MemoryError, PictureProblem):
        raise
    except Exception as exc:
        return _partly_loaded(image, data, limits, exc)
    if image.format == "JPEG" and image.getpixel((image.width - 1, image.height - 1)) in _FILLING:
        share = missing_share(completed_jpeg(data), lambda version: _load_small(version, limits))
        refuse_if_most_is_missing(share)
        return Loaded(image, is_truncated=share > 0)
    return Loaded(image)


def _partly_loaded(
    image: ImageFile.ImageFile, data: bytes, limits: Limits, problem: Exception
) -> Loaded:
    """Return an image with the rows that were read before loading failed, if there are enough."""
    if image.format in ("WEBP", "AVIF", "HEIF"):
        raise DamagedPicture from problem
    try:
        limits.reserve(image, partly=True)
        share = undrawn_share(lambda: open_image(data))
        refuse_if_most_is_missing(share)
        image.tile = []
        image.load()
        if image.info.get("interlace") and image.format == "PNG":
            show_rows_twice(image, share)
    except (MemoryError, PictureProblem):
        raise
    except Exception as exc:
        raise DamagedPicture from exc
    return Loaded(image, is_truncated=True)


def _load_completed(completion: Completion, limits: Limits) -> Loaded:
    """Load a file that ends early, using the first completion that can be decoded."""
    problem: Exception = NotAPicture()
    for data in completion.versions():
        try:
            image = open_image(data)
        except (NotAPicture, DamagedPicture) as exc:
            problem = exc
            continue
        limits.accept(image.size)
        try:
            image.draft("RGB", (limits.side, limits.side))
            limits.reserve(image, partly=True)
            image.load()
        except (MemoryError, PictureProblem):
            raise
        except Exception as exc:
            problem = DamagedPicture()
            problem.__cause__ = exc
            continue
        share = missing_share(completion, lambda version: _load_small(version, limits))
        refuse_if_most_is_missing(share)
        return Loaded(image, is_truncated=True)
    raise problem


def _load_small(data: bytes, limits: Limits) -> Image.Image:
    image = open_image(data)
    image.draft("RGB", (1, 1))
    limits.reserve(image, partly=True)
    image.load()
    return image


def later_frames(image: ImageFile.ImageFile, *, max_pixels: int) -> Iterator[Image.Image]:
    """Load and yield the frames of an animation after the first, up to the limits."""
    if image.format not in ANIMATED:
        return
    most = min(MOST_FRAMES, max_pixels // max(1, image.width * image.height))
    for number in range(image.tell() + 1, most):
        try:
            image.seek(number)
            if image.width * image.height > max_pixels:
                return
            image.load()
        except MemoryError:
            raise
        except Exception:
            # There are no more frames, or the next one cannot be read.
            return
        yield image
