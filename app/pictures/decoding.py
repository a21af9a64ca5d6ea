"""From bytes to a `Picture`: decode an image, turn it upright, measure it and hash it."""

import asyncio
import hashlib
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image

from app.pictures.colours import Colour, dominant_colours
from app.pictures.containers import Parts, take_apart
from app.pictures.costs import Limits
from app.pictures.opencv import opencv
from app.pictures.opening import ANIMATED, later_frames, load
from app.pictures.phash import phash
from app.pictures.pixels import is_blank, shown
from app.pictures.plainness import SIDE, is_too_plain
from app.pictures.pool import LONGEST_S, DecodingPool, Room
from app.pictures.reducing import reduced_to
from app.pictures.tags import Block, named_tags, orientation
from app.problems import DamagedPicture, EmptyPicture, PictureProblem, TooCostly

T = TypeVar("T")

# Increment when files decode to different pixels; images read by an older version should then be
# read again. 1: colour profiles, 16-bit and deeper grey, backgrounds behind transparency, blank
# first frames, truncated files.
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
    # Rows written by version 0.1 use this for JPEGs that contain several images.
    "MPO": "image/jpeg",
}
"""The supported formats (Pillow's names) and their media types."""

THUMBNAIL_SIDE = 256
THUMBNAIL_LONGEST_SIDE = 2048
# Pillow first shrinks by an integer factor, to at least this many times the final size, and then
# applies the filter; its documentation calls the result from 3 on nearly indistinguishable from
# filtering alone.
REDUCING_GAP = 3
# Regions smaller than this share of a side are not decoded at the model's full resolution.
LEAST_REGION = 0.1
# Of what only the model sees, the short side is no less than this many times the model's: built-in
# vectors are then within a cosine of 0.999 of those of larger images.
LEAST_OVERSIZE = 1.5
# The largest input of the common CLIP models is 448 px; most take 224.
LARGEST_MODEL_SIDE = 448

SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in MEDIA_TYPES
)
"""The file name suffixes of the supported formats, in lower case."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was decoded.

    `width` and `height` are those of the upright image at full size. `truncated` means that the
    file ends early or is damaged, so pixels may be missing; `decoder` is the decoder version that
    read it.
    """

    width: int
    height: int
    format: str
    sha256: str
    file_bytes: int
    truncated: bool = field(default=False, kw_only=True)
    decoder: int = field(default=DECODER, kw_only=True)


@dataclass(frozen=True, slots=True)
class Facts(Source):
    """What the index stores about an image.

    `dhash` and `phash` are signed 64-bit integers; an image without a `phash` gets it later, from
    its thumbnail. `colours` are the dominant ones. `thumbnail` is a JPEG with
    a short side of 256 px, or of the image's own size if smaller. `too_plain` means that the image
    resembles too many others to be called a copy of any.
    """

    dhash: int
    exif: dict[str, str | int | float]
    colours: list[Colour]
    thumbnail: bytes
    too_plain: bool = field(default=False, kw_only=True)
    phash: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Picture(Source):
    """A decoded image; what else the index stores about it is made at first use.

    `image` is RGB and upright, reduced to a short side of no less than was asked for, unless the
    original is smaller. `whole` is the same, also where `image` is only a region of it, and `tags`
    is the EXIF block.
    """

    image: Image.Image
    whole: Image.Image
    tags: Block

    @cached_property
    def small(self) -> Image.Image:
        """The whole image as its thumbnail shows it."""
        return _small(self.whole)

    @cached_property
    def dhash(self) -> int:
        """The difference hash, as a signed 64-bit integer."""
        return dhash(self.small)

    @cached_property
    def phash(self) -> int:
        """The hash that shows the image in all eight orientations, as a signed 64-bit integer."""
        return phash(self._sample)

    @cached_property
    def exif(self) -> dict[str, str | int | float]:
        """The EXIF tags by name."""
        return named_tags(self.tags)

    @cached_property
    def colours(self) -> list[Colour]:
        """The dominant colours."""
        return dominant_colours(self._sample)

    @cached_property
    def thumbnail(self) -> bytes:
        """The thumbnail, a JPEG."""
        return jpeg(self.small)

    @cached_property
    def too_plain(self) -> bool:
        """Whether the image resembles too many others to be called a copy of any."""
        return is_too_plain(self._sample)

    @cached_property
    def _sample(self) -> Image.Image:
        return self.small.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1)

    def seen_by(self, side: int) -> Image.Image:
        """Return the smallest image that there is and that a model of this `side` can do with."""
        made: Image.Image | None = self.__dict__.get("small")
        if made is None or self.image is not self.whole:
            return self.image
        return made if min(made.size) >= LEAST_OVERSIZE * side else self.image

    def source(self) -> Source:
        """Return what is known of the file, without the pixels."""
        return Source(**{field.name: getattr(self, field.name) for field in fields(Source)})

    def facts(self) -> Facts:
        """Return what the index stores, without the pixels; raises `DamagedPicture`."""
        with _damage():
            return Facts(**{field.name: getattr(self, field.name) for field in fields(Facts)})


@dataclass(frozen=True, slots=True)
class Crop:
    """A region of an upright image, in fractions (0 to 1) of its width and height."""

    x: float
    y: float
    width: float
    height: float

    def of(self, image: Image.Image) -> Image.Image:
        """Crop the image to this region, at least one pixel in size."""
        left = min(round(self.x * image.width), image.width - 1)
        top = min(round(self.y * image.height), image.height - 1)
        right = max(left + 1, round((self.x + self.width) * image.width))
        bottom = max(top + 1, round((self.y + self.height) * image.height))
        return image.crop((left, top, min(right, image.width), min(bottom, image.height)))


class Decoder:
    """Decodes images in the given threads, so that the event loop is never blocked."""

    def __init__(
        self, pool: DecodingPool, *, max_pixels: int, model_side: int = LARGEST_MODEL_SIDE
    ) -> None:
        self.pool = pool
        self._max_pixels = max_pixels
        self._model_side = model_side

    async def facts(self, data: bytes) -> Facts:
        """Decode `data` for what the index stores about it; raises what `decode` raises."""
        facts, _ = await self.decode_and(data, lambda _: None)
        return facts

    async def decode_and(
        self,
        data: bytes,
        prepare: Callable[[Picture], T],
        *,
        crop: Crop | None = None,
        short_side: int = 0,
        first: bool = False,
    ) -> tuple[Facts, T]:
        """Decode `data`, or a region of it, and call `prepare` on it in the same thread.

        The pixels go with the thread's work, so that they count among those being decoded as long
        as they exist. The image has at least `short_side` pixels on its short side, unless the file
        has fewer. What is to be done `first` comes before all else. Raises what `decode` raises.
        """
        # The model should see as many pixels of a region as of a whole image.
        side = max(round(self._model_side / _share(crop)), short_side // 2)

        def work(room: Room) -> tuple[Facts, T]:
            # Before its time begins, of which the first image's would else be taken.
            opencv()
            picture = decode(data, max_pixels=self._max_pixels, model_side=side, need=room.need)
            return picture.facts(), prepare(_cropped(picture, crop))

        return await self._run(work, first=first)

    async def look(
        self,
        data: bytes,
        prepare: Callable[[Picture], T],
        *,
        crop: Crop | None = None,
        model_side: int | None = None,
    ) -> tuple[Source, T]:
        """Do what `decode_and` does, but first, and no more than a model of `model_side` needs.

        Nothing is made that the index stores about an image.
        """
        side = round(LEAST_OVERSIZE * (model_side or self._model_side) / _share(crop))

        def work(room: Room) -> tuple[Source, T]:
            picture = decode(data, max_pixels=self._max_pixels, least_side=side, need=room.need)
            return picture.source(), prepare(_cropped(picture, crop))

        return await self._run(work, first=True)

    async def _run(self, work: Callable[[Room], T], *, first: bool) -> T:
        """Run work in the pool, and stop waiting for it if it takes too long."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def start() -> None:
            # The wait may be over by now.
            with suppress(RuntimeError):
                limit.reschedule(loop.time() + LONGEST_S)

        room = Room(
            self.pool.memory, first=first, on_start=lambda: loop.call_soon_threadsafe(start)
        )

        def run() -> T:
            try:
                return work(room)
            finally:
                room.leave()

        try:
            async with limit:
                return await asyncio.wrap_future(self.pool.submit(run, first=first))
        except TimeoutError as exc:
            raise TooCostly(f"Decoding the image takes longer than {LONGEST_S:g} s.") from exc


def _share(crop: Crop | None) -> float:
    """Return which share of its sides a region has."""
    return max(LEAST_REGION, min(crop.width, crop.height) if crop else 1)


def _cropped(picture: Picture, crop: Crop | None) -> Picture:
    return replace(picture, image=crop.of(picture.image)) if crop else picture


def _unlimited(_: int) -> None:
    """Let any image be decoded at once."""


def decode(
    data: bytes,
    *,
    max_pixels: int,
    model_side: int = LARGEST_MODEL_SIDE,
    least_side: int | None = None,
    need: Callable[[int], None] = _unlimited,
) -> Picture:
    """Decode an image file for its thumbnail and a model whose input is `model_side` pixels square.

    With a `least_side`, the short side is no less than that, and nothing else is asked of it. An
    animation is represented by its first frame that is not blank. `need` is called before pixels
    are decoded with about the number of bytes that it takes at most, copies included.

    Raises `EmptyPicture`, `NotAPicture`, `TooManyPixels` or `TooCostly` (before any pixel is
    decoded), `DamagedPicture`, and what `need` raises.
    """
    side = max(THUMBNAIL_SIDE, 2 * model_side) if least_side is None else least_side
    if not data:
        raise EmptyPicture
    with _damage():
        parts = take_apart(data)
        picture = _decode(data, parts, Limits(len(data), max_pixels, side, need, parts.scans))
        # No larger than the thumbnail if that is enough: it is made anyway.
        if least_side is None and side <= THUMBNAIL_SIDE:
            picture = replace(picture, image=picture.small, whole=picture.small)
        return picture


@contextmanager
def _damage() -> Generator[None]:
    """Turn whatever fails within into `DamagedPicture`, except for want of memory."""
    try:
        # Pillow reports oddities in a file as warnings, and faults as nearly any exception:
        # struct.error, SyntaxError, zlib.error, OSError, ValueError, ...
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemoryError, PictureProblem):
        raise
    except Exception as exc:
        raise DamagedPicture from exc


def _decode(data: bytes, parts: Parts, limits: Limits) -> Picture:
    side = limits.side
    loaded = load(parts.pixels, limits)
    source, size = loaded.image, limits.size
    exif = Block(parts.exif or source.info.get("exif") or b"")
    # The HEIF decoder applies the format's own rotation; the EXIF orientation is to be ignored.
    turn = orientation(exif) if source.format != "HEIF" else 1
    profile = parts.profile or source.info.get("icc_profile") or b""
    image = shown(source, side=side, turn=turn, profile=profile)
    if source.format in ANIMATED and is_blank(image):
        # Seeking to later frames overwrites the pixels of this one.
        image = image.copy()
        image = next(
            (
                frame
                for later in later_frames(source, max_pixels=limits.max_pixels)
                if not is_blank(frame := shown(later, side=side, turn=turn, profile=profile))
            ),
            image,
        )
    width, height = size if turn < 5 else size[::-1]
    return Picture(
        image=image,
        whole=image,
        tags=exif,
        width=width,
        height=height,
        format=source.format or "",
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        truncated=loaded.is_truncated or parts.ends_early,
    )


def dhash(image: Image.Image) -> int:
    """Return the 64-bit difference hash of an image, as a signed integer (Postgres' bigint).

    Each bit says whether a pixel of the 9 x 8 grey thumbnail is darker than its right neighbour
    (N. Krawetz, "Kind of Like That", 2013).
    """
    small = image.resize((9, 8), Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    grey = np.asarray(small.convert("L"))
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def hamming(a: int, b: int) -> int:
    """Return the number of differing bits (0 to 64) between two hashes."""
    return ((a ^ b) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _small(image: Image.Image) -> Image.Image:
    scale = min(1, THUMBNAIL_SIDE / min(image.size), THUMBNAIL_LONGEST_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return reduced_to(image, (width, height))


def jpeg(image: Image.Image) -> bytes:
    """Encode an RGB image as JPEG."""
    out = BytesIO()
    # Pillow would take over the comment of a GIF, and refuse one that is too long for a JPEG.
    image.save(out, "JPEG", quality=85, comment=b"")
    return out.getvalue()
