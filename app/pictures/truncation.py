"""Files that end early, or are damaged within: read as far as viewers show them.

Whether such a picture can be used is decided by the share of its pixels that are missing. A pixel
is missing if it changes with what stands in the place of what is not there: with the canvas that it
should have been drawn on (PNG, GIF, BMP, TIFF), or with the bytes that the file is completed with
(JPEG, WebP, AVIF, HEIF, whose decoders fill what is missing in their own way).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from app.pictures.containers import jpeg_segments
from app.problems import DamagedPicture

# The built-in model, 120 photos with their lower part grey: of 30 % missing, the whole photo is
# found first in 99 of 100 searches; of half, in 78; of 60 %, in 54, and others are as similar.
MOST_MISSING = 0.5

# Pictures are compared at this size.
_SAMPLED_SIDE = 512
# What a file may be completed with. Some decoders refuse some of it, for it says something there.
_FILLS = (b"\0", b"\x80", b"\xff", b"\xfe", b"\xaa", b"\x11", b"\xf0")
_ENOUGH = 3
_LAST_PART = 32
# More than a row of a JPEG's blocks, and more than what is asked for ahead.
_FILL_BYTES = 1 << 18
# A file is not filled up to whatever size it claims, but to so many times its own, beside what is
# there: of more, next to nothing could be told.
_MOST_FILLED = 4
_EOI = b"\xff\xd9"

Pixels = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Completion:
    """How a file that ends early is completed: with one of some bytes, over and over.

    `start` is what there is of it. `in_order` says that pixels come from the top down, so that all
    are missing behind the first.
    """

    start: bytes
    with_bytes: Callable[[bytes, bytes], bytes]
    in_order: bool = False

    def versions(self) -> Iterator[bytes]:
        """Yield the file, completed in different ways."""
        if self.in_order:
            yield self.with_bytes(self.start, b"")
        for fill in _FILLS:
            yield self.with_bytes(self.start, fill)
        # The end of what there is may fit nothing but what is missing.
        for fill in _FILLS:
            yield self.with_bytes(self.start[: -len(self.start) // _LAST_PART - 1], fill)


def completion_of(data: bytes) -> Completion | None:
    """Return how a file is to be completed, or None if it ends where its format says.

    Raises `DamagedPicture` if next to nothing of it is there.
    """
    if data.startswith(b"\xff\xd8\xff"):
        is_whole = data.endswith(_EOI) or not (scan := _scan(data)) or data.find(_EOI, scan) >= 0
        return None if is_whole else completed_jpeg(data)
    if data.startswith(b"RIFF") and 8 + int.from_bytes(data[4:8], "little") > len(data):
        return Completion(data, _webp)
    if data[4:8] == b"ftyp":
        missing = _missing_bytes(data)
        size = len(data) + missing
        if missing > _MOST_FILLED * len(data):
            refuse_if_most_is_missing(missing / size)
        if missing > 0:
            return Completion(data, lambda start, fill: start + fill * (size - len(start)))
    return None


def completed_jpeg(data: bytes) -> Completion:
    """Return how a JPEG is to be completed behind what is whole of it, whatever follows there."""
    scans, end = 0, len(data)
    for marker, start, behind in jpeg_segments(data, in_scans=True):
        scans += marker == 0xDA
        end = len(data) if marker == 0xDA else start if marker in (0, 0xD9) else behind
    # In the second scan every pixel has been there once, if coarsely: none is missing.
    most = _FILL_BYTES if scans == 1 else 0
    return Completion(
        data[:end].rstrip(b"\xff"), lambda start, fill: start + fill * most + _EOI, in_order=True
    )


def missing_share(completion: Completion, load: Callable[[bytes], Image.Image]) -> float:
    """Return the share, 0 to 1, of the pixels that change with the completion of a file."""
    seen: list[Pixels] = []
    for version in completion.versions():
        try:
            seen.append(_sample(load(version), whole=completion.in_order))
        except MemoryError:
            raise
        except Exception:  # noqa: S112 (nearly any, as of every damaged file)
            continue
        if len(seen) == _ENOUGH:
            break
    if len(seen) < 2:
        return 1.0
    changed = np.zeros(seen[0].shape[:2], bool)
    for other in seen[1:]:
        changed |= _differ(seen[0], other)
    return _share_in_order(changed) if completion.in_order else float(changed.mean())


def undrawn_share(image: Callable[[], ImageFile.ImageFile]) -> float:
    """Return the share, 0 to 1, of the pixels that a file that cannot be loaded leaves undrawn."""
    dark, light = (_sample(_drawn(image(), value)) for value in (0, 255))
    return float(_differ(dark, light).mean())


def show_rows_twice(image: Image.Image, share: float) -> None:
    """Copy, into the rows that the last pass of an interlaced PNG did not reach, those above.

    This pass has every second row, from the second one on.
    """
    rows = range(1, image.height, 2)
    for row in rows[max(0, len(rows) - round(share * image.height) - 1) :]:
        image.paste(image.crop((0, row - 1, image.width, row)), (0, row))


def refuse_if_most_is_missing(share: float) -> None:
    """Raise `DamagedPicture` unless enough of a picture is there."""
    if share > MOST_MISSING:
        raise DamagedPicture(
            f"The picture is damaged or cut short: {share:.0%} of its pixels are missing."
        )


def _drawn(image: ImageFile.ImageFile, value: int) -> Image.Image:
    """Draw what can be drawn of an image on a canvas of one value."""
    image.load_prepare()
    bands = len(image.getbands())
    canvas = Image.new(image.mode, image.im.size, value if bands == 1 else (value,) * bands)
    image.im = canvas.im
    # It would make another canvas.
    image.load_prepare = lambda: None
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:
        image.tile = []
    return image


def _sample(image: Image.Image, *, whole: bool = False) -> Pixels:
    if not whole:
        width, height = (min(side, _SAMPLED_SIDE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return np.atleast_3d(np.asarray(image))


def _differ(one: Pixels, other: Pixels) -> NDArray[np.bool_]:
    return (one != other).any(axis=2)


def _share_in_order(changed: NDArray[np.bool_]) -> float:
    """Return the share behind the first change, among pixels that stand for JPEG's 8 x 8 blocks.

    A row of units is one or two such rows. The unit in which the file ends is there in part.
    """
    height, width = changed.shape
    rows = np.flatnonzero(changed.any(axis=1))
    if not len(rows):
        return 0.0
    missing = 0
    for row in range(rows[0], height):
        columns = np.flatnonzero(changed[row]) if row < rows[0] + 2 else np.array([0])
        missing += width - columns[0] if len(columns) else 0
    return max(0.0, float(missing) - 4) / (width * height)


def _scan(data: bytes) -> int:
    """Return where the first scan of a JPEG begins; 0 if it has none."""
    return next((end for marker, _, end in jpeg_segments(data) if marker == 0xDA), 0)


def _webp(data: bytes, fill: bytes) -> bytes:
    chunks = _completed_chunks(data[12:], fill)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _completed_chunks(data: bytes, fill: bytes) -> bytes:
    """Return the chunks of a WebP that are whole; the first that makes pixels is completed."""
    chunks, place, has_pixels = b"", 0, False
    while place + 8 <= len(data) and not has_pixels:
        name, length = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + length]
        has_pixels = name in (b"VP8 ", b"VP8L", b"ANMF")
        if len(body) < length:
            if not has_pixels:
                break
            if name == b"ANMF":
                body = body[:16] + _completed_chunks(body[16:], fill)
            else:
                # More than is missing, for filling may need more bytes than what it stands for.
                missing = min(length - len(body), _MOST_FILLED * len(data))
                body += fill * (missing + _FILL_BYTES)
        body += b"\0" * (len(body) % 2)
        chunks += name + struct.pack("<I", len(body)) + body
        place += 8 + length + length % 2
    return chunks


def _missing_bytes(data: bytes) -> int:
    """Return how far the last box of an AVIF or HEIF file reaches behind its end."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        # Zero: to the end of the file.
        if size < 8:
            return 0
        place += size
    return place - len(data)
