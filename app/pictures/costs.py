"""What decoding a file would cost, known before any pixel is decoded.

A thread that decodes cannot be stopped. So files are refused whose decoding could take much longer
than their pixels need: by the number of their parts, each of which costs time whatever is in it,
and by the number of times that a file goes over all of its pixels.

The bytes per pixel were measured with files of 25 million pixels, each decoded in a process of its
own (`resource.getrusage`), and rounded up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image, ImageFile

from app.problems import TooCostly, TooManyPixels

# A file may have 10,000 parts (segments, chunks, blocks, strips, tiles), and one more for each so
# many of its bytes.
BYTES_PER_PART = 50
MOST_PARTS = 10_000
# Scans of one JPEG. Encoders write about ten; those that search for the best, less than twenty.
MOST_SCANS = 100
# Pixels that all scans of a file go over: 20 times those of the largest image by default.
MOST_SCANNED = 2_000_000_000

# Bytes per pixel of the whole file and of what its decoder keeps beside it, for the formats that
# are decoded in one piece.
_PER_PIXEL = {"WEBP": 16, "AVIF": 16, "HEIF": 12}
# Bytes per pixel of a loaded image, and of the copies made before it is reduced; see pixels.py.
_LOADED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_COPIED = {"1": 1, "P": 4, "LA": 4, "La": 8, "PA": 8, "RGBA": 4, "RGBa": 8, "I": 6, "F": 6,
           "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # fmt: skip
# Bytes per pixel of all copies of the reduced image that exist at once.
_REDUCED, _REDUCED_WITH_ALPHA = 10, 20
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# A colour that is transparent makes an RGBA copy of the whole image, and another to reduce it.
_KEYED = 8
# Frames after the first are drawn on each other.
_ANIMATED = 8
# How many more images than one exist while it is found out which pixels of a file are missing.
_ATTEMPTS = 2

_BITS, _COMPRESSION, _SAMPLES, _ROWS = 258, 259, 277, 278
_OFFSETS, _SIZES = ((273, 324), (279, 325))
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_JPEG_IN_TIFF = (6, 7)
_PHOTOMETRIC, _YCBCR = 262, 6
_SCAN = b"\xff\xda"


@dataclass
class Limits:
    """What one file may cost; `size` becomes that of the image.

    `side` is what the short side is reduced to, `scans` the number of scans of a JPEG. `need` is
    told the bytes that the next attempt takes, and may wait or raise.
    """

    file_bytes: int
    max_pixels: int
    side: int
    need: Callable[[int], None]
    scans: int = 0
    size: tuple[int, int] = (0, 0)

    def accept(self, size: tuple[int, int]) -> None:
        """Note the size of the whole image; raises `TooManyPixels` or `TooCostly`."""
        self.size = width, height = size
        if width * height > self.max_pixels:
            raise TooManyPixels(
                f"The image has {width} x {height} pixels; "
                f"this server accepts {self.max_pixels:,} in all."
            )
        refuse_scans(self.scans, width * height)

    def reserve_webp(self, size: tuple[int, int]) -> None:
        """Reserve what a WebP takes, which Pillow allocates as soon as it opens the file."""
        if size != (0, 0):
            self.need(2 * self.file_bytes + size[0] * size[1] * _PER_PIXEL["WEBP"])

    def reserve(self, image: ImageFile.ImageFile, *, partly: bool = False) -> None:
        """Reserve what loading an opened image takes, with the copies made of it afterwards.

        A JPEG is as small here as it will be loaded. `partly`: it was found to be damaged, and is
        loaded several times, to see what is missing.
        """
        self.need(2 * self.file_bytes + self._bytes(image, partly))

    def _bytes(self, image: ImageFile.ImageFile, partly: bool) -> int:
        pixels = image.width * image.height
        has_alpha = image.has_transparency_data or image.mode in _WITH_ALPHA
        factor = max(1, min(image.size) // self.side)
        reduced = pixels // factor**2 * (_REDUCED_WITH_ALPHA if has_alpha else _REDUCED)
        each = _LOADED.get(image.mode, 4)
        if image.format in _PER_PIXEL:
            # To see what is missing, it is decoded again beside what there is already.
            return pixels * (each + _PER_PIXEL[image.format] * (1 + partly)) + reduced
        each += each * _ATTEMPTS * partly + _COPIED.get(image.mode, 0)
        if "transparency" in image.info:
            each += _KEYED - (4 if image.mode == "P" else 0)
        # Whether a GIF is animated would have to be looked for.
        if image.format == "GIF" or getattr(image, "is_animated", False):
            each += _ANIMATED
        return pixels * each + reduced + self._coefficients(image) + _largest_piece(image)

    def _coefficients(self, image: Image.Image) -> int:
        """Return what libjpeg keeps until the last scan of a JPEG that has several, in bytes."""
        layers = cast(Sequence[tuple[int, int, int, int]], getattr(image, "layer", ()))
        if not layers or self.scans < 2:
            return 0
        across, down = (max(layer[axis] for layer in layers) or 1 for axis in (1, 2))
        share = sum(h * v for _, h, v, _ in layers) / (across * down)
        return round(2 * share * self.size[0] * self.size[1])


def refuse_parts(count: int, data: bytes) -> None:
    """Raise `TooCostly` if a file is in more parts than its size explains."""
    if count > MOST_PARTS + len(data) // BYTES_PER_PART:
        raise TooCostly("The file consists of too many parts.")


def refuse_scans(scans: int, pixels: int) -> None:
    """Raise `TooCostly` if a JPEG goes over its pixels too many times."""
    if scans > MOST_SCANS or scans * pixels > MOST_SCANNED:
        raise TooCostly(f"The image goes over its {pixels:,} pixels {scans:,} times.")


def _largest_piece(image: Image.Image) -> int:
    """Return the bytes of the largest strip or tile of a TIFF, which is decoded at once."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None or image.format != "TIFF":
        return 0
    width = _number(tags, _TILE_WIDTH) or image.width
    height = _number(tags, _TILE_HEIGHT) or min(_number(tags, _ROWS) or image.height, image.height)
    bits = max((int(bits) for bits in tags.get(_BITS, (8,))), default=8)
    # Which libtiff gives as RGBA.
    is_ycbcr = _number(tags, _PHOTOMETRIC) == _YCBCR
    samples = 4 if is_ycbcr else max(1, _number(tags, _SAMPLES))
    return width * height * samples * max(8, bits) // 8


def refuse_tiff_scans(image: Image.Image, data: bytes) -> None:
    """Raise `TooCostly` for a TIFF of JPEGs that go over their pixels too many times."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None or _number(tags, _COMPRESSION) not in _JPEG_IN_TIFF:
        return
    starts, sizes = (
        next((tags[tag] for tag in names if tag in tags), ()) for names in (_OFFSETS, _SIZES)
    )
    if sum(sizes) > 2 * len(data):
        raise TooCostly("The parts of the file overlap.")
    pieces = zip(starts, sizes, strict=False)
    scans = max((data.count(_SCAN, start, start + size) for start, size in pieces), default=0)
    refuse_scans(scans, image.width * image.height)


def _number(tags: Any, tag: int) -> int:
    value = tags.get(tag, 0)
    return int(value[0] if isinstance(value, tuple) else value)  # pyright: ignore[reportUnknownArgumentType]
