"""Splits an image file into the data that makes up its pixels, its EXIF block and its profile.

Pillow rejects whole files for an overlong text, a bad checksum on a date or a resolution that is
not a number. So it is given only the data that makes up the pixels, where no metadata can be wrong;
EXIF and the colour profile are read from the original. Files that cannot be split are passed
through unchanged.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from app.pictures.costs import refuse_parts
from app.pictures.tags import Block

# The largest press profiles are 3 MB; larger ones are ignored.
LARGEST_PROFILE = 4_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
# TIFF tags needed to decode the pixels (TIFF 6.0, its technical notes, and libtiff's own).
_STRUCTURE = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
        *(322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, *range(512, 522)),
        *(529, 530, 531, 532),
    }
)
_PROFILE = 34675
_SCAN = b"\xff\xda"
# The types of TIFF values that are read as bytes, not one by one.
_BYTES = (1, 2, 7)
# Skips fill bytes, scan data and standalone markers, except the end marker.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")


@dataclass(frozen=True, slots=True)
class Parts:
    """A file's pixel data, EXIF block and colour profile; the last two are empty if absent.

    For WebP, AVIF and HEIF, Pillow reports them instead. `ends_early` is only set for PNGs, and
    `scans` for JPEGs.
    """

    pixels: bytes
    exif: bytes = b""
    profile: bytes = b""
    ends_early: bool = False
    scans: int = 0


def take_apart(data: bytes) -> Parts:
    """Split a file of any format into its parts; raises `TooCostly` if they are too many."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(_PNG):
        return _png(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"GIF8"):
        refuse_parts(_gif_blocks(data), data)
    return Parts(data)


def _jpeg(data: bytes) -> Parts:
    kept, exif, pieces, place = [data[:2]], b"", list[bytes](), 2
    for marker, start, end in jpeg_segments(data):
        body = data[start + 4 : end]
        if marker == 0xDA:
            break
        if marker == 0xE1 and body.startswith(b"Exif\0"):
            exif = exif or body
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            pieces.append(body)
        if _makes_pixels(marker, body):
            kept.append(data[start:end])
        place = end
    # A profile may be split over several segments, each with its number and the total.
    pieces.sort(key=lambda piece: piece[12:13])
    profile = b"".join(piece[14:] for piece in pieces)
    return Parts(b"".join((*kept, data[place:])), exif, profile, scans=_scans(data, place))


def _scans(data: bytes, place: int) -> int:
    """Return the number of scans of a JPEG whose first begins at `place` or later."""
    # Much faster, and never less than there are.
    scans = data.count(_SCAN, place)
    if scans < 2:
        return scans
    return sum(marker == 0xDA for marker, _, _ in jpeg_segments(data, in_scans=True))


def jpeg_segments(data: bytes, *, in_scans: bool = False) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, start and end of each complete segment of a JPEG.

    The last one is the header of the first scan. With `in_scans`, it is the end marker, or a marker
    of zero at the start of an incomplete segment. Raises `TooCostly` if there are too many.
    """
    end, count = 2, 0
    while found := _MARKER.search(data, end):
        count += 1
        refuse_parts(count, data)
        place = found.start()
        marker = data[place + 1]
        if marker == 0xD9:
            yield marker, place, place + 2
            return
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if not place + 4 <= end <= len(data):
            if in_scans:
                yield 0, place, place
            return
        yield marker, place, end
        if marker == 0xDA and not in_scans:
            return


def _makes_pixels(marker: int, body: bytes) -> bool:
    """Return whether decoding needs a JPEG segment; two of the APPn segments define colours."""
    if marker == 0xE0:
        return body.startswith(b"JFIF\0") and len(body) >= 14
    if marker == 0xEE:
        return body.startswith(b"Adobe") and len(body) >= 12
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _png(data: bytes) -> Parts:
    chunks = list(_chunks(data))
    beside = {
        name: data[start + 8 : end - 4]
        for name, start, end in reversed(chunks)
        if name in (b"eXIf", b"iCCP")
    }
    kept = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
    if _is_sound_animation(data, chunks):
        kept.update(_ANIMATION)
    pixels = [
        data[start:end]
        for name, start, end in chunks
        if name in kept or (name == b"tRNS" and _is_sound_key(data, start, end))
    ]
    return Parts(
        _PNG + b"".join(pixels),
        beside.get(b"eXIf", b""),
        _inflated(beside.get(b"iCCP", b"")),
        ends_early=not chunks or chunks[-1][0] != b"IEND",
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each chunk of a PNG; the last may be cut off.

    Raises `TooCostly` if there are too many.
    """
    place, count = len(_PNG), 0
    while place + 8 <= len(data):
        count += 1
        refuse_parts(count, data)
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        yield name, place, end
        if name == b"IEND":
            return
        place = end


def _is_whole(data: bytes, start: int, end: int) -> bool:
    checksum = int.from_bytes(data[end - 4 : end], "big")
    return end <= len(data) and zlib.crc32(data[start + 4 : end - 4]) == checksum


def _is_sound_key(data: bytes, start: int, end: int) -> bool:
    """Return whether a PNG's tRNS chunk is usable: at least 2 bytes for grey, 6 for RGB."""
    needed = {b"\0": 2, b"\2": 6, b"\3": 1}.get(data[25:26], 1 << 31)
    return _is_whole(data, start, end) and end - start - 12 >= needed


def _is_sound_animation(data: bytes, chunks: list[tuple[bytes, int, int]]) -> bool:
    """Return whether every frame of an animated PNG is valid; otherwise it is read as a still."""
    animation = [chunk for chunk in chunks if chunk[0] in _ANIMATION]
    if not animation or animation[0][0] != b"acTL" or len(data) < 33:
        return False
    canvas, expected = struct.unpack_from(">II", data, 16), 0
    for name, start, end in animation:
        if not _is_whole(data, start, end) or end - start - 12 < (4 if name == b"fdAT" else 8):
            return False
        if name == b"acTL":
            continue
        if int.from_bytes(data[start + 8 : start + 12], "big") != expected:
            return False
        expected += 1
        if name == b"fcTL":
            if end - start - 12 < 26:
                return False
            width, height, left, top = struct.unpack_from(">4I", data, start + 12)
            if left + width > canvas[0] or top + height > canvas[1]:
                return False
    return True


def _inflated(chunk: bytes) -> bytes:
    """Return the profile from an iCCP chunk: name, zero byte, method (0), compressed profile."""
    _, _, packed = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], LARGEST_PROFILE + 1)
    except zlib.error:
        return b""


def _tiff(data: bytes) -> Parts:
    block = Block(data)
    count, start = block.count(block.first)
    size = block.entry_size
    end = start + count * size
    pointer = 8 if block.is_big else 4
    if not count or end + pointer > len(data):
        return Parts(data)
    entries = list(block.entries(block.first))
    for entry in entries:
        if entry.tag in _STRUCTURE and entry.kind not in _BYTES:
            refuse_parts(entry.count, data)
    profiles = [entry for entry in entries if entry.tag == _PROFILE]
    profile = block.bytes_of(profiles[0], LARGEST_PROFILE + 1) if profiles else b""
    kept = [data[at : at + size] for at in range(start, end, size)]
    kept = [
        entry for entry in kept if struct.unpack_from(block.order + "H", entry)[0] in _STRUCTURE
    ]
    # The directory stays where it is, with fewer entries and no link to a next page.
    directory = struct.pack(block.order + ("Q" if block.is_big else "H"), len(kept))
    directory += b"".join(kept) + bytes(pointer)
    begin = block.first
    pixels = b"".join((data[:begin], directory, data[begin + len(directory) :]))
    return Parts(pixels, data, profile)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height from a WebP's first chunk; (0, 0) if it is not a WebP."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if not data.startswith(b"RIFF") or data[8:12] != b"WEBP":
        return 0, 0
    if kind == b"VP8X":
        return _little(body[4:7]) + 1, _little(body[7:10]) + 1
    if kind == b"VP8L":
        both = _little(body[1:5])
        return (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bmp(data: bytes) -> Parts:
    """Return a BMP's parts; a V5 header has the profile's offset, counted from byte 14."""
    if len(data) < 138 or data[14:18] != b"|\0\0\0" or data[70:74] != b"DEBM":
        return Parts(data)
    start, size = struct.unpack_from("<II", data, 126)
    return Parts(data, profile=data[14 + start : 14 + start + min(size, LARGEST_PROFILE + 1)])


def _gif_blocks(data: bytes) -> int:
    """Return the number of blocks of a GIF, of which each costs time; at least those up to a fault.

    GIF89a, sections 15 to 26: extensions and images, each followed by sub-blocks.
    """
    place = 13 + (3 << (data[10] & 7) + 1 if data[10:11] >= b"\x80" else 0)
    count, most = 0, len(data)
    while place < most and (kind := data[place]) in (0x21, 0x2C):
        if kind == 0x2C:
            flags = data[place + 9] if place + 9 < most else 0
            place += 11 + (3 << (flags & 7) + 1 if flags >= 0x80 else 0)
        else:
            place += 2
        while place < most and data[place]:
            place += 1 + data[place]
            count += 1
        place += 1
        count += 1
    return count
