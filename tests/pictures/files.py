"""Files put together byte by byte: EXIF blocks, PNG chunks, ICC profiles."""

import struct
import zlib
from collections.abc import Sequence

Triple = tuple[float, float, float]

# XYZ, adapted to D50, of the primaries of each space.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
SWAPPED = (SRGB[1], SRGB[0], SRGB[2])
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
WHITE = (0.9642, 1.0, 0.8249)


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """A directory's entry, whose value is in it."""
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")[:4]


def exif(*entries: bytes, extra: bytes = b"") -> bytes:
    """An EXIF block of entries; `extra` begins at offset 14 + 12 * entries."""
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"Exif\0\0II*\0\x08\0\0\0" + directory + extra


def turn(orientation: int) -> bytes:
    """The entry of an orientation."""
    return entry(0x112, 3, 1, struct.pack("<H", orientation))


def chunk(name: bytes, data: bytes, *, checksum: bytes | None = None) -> bytes:
    """A PNG's chunk."""
    right = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + (checksum or right)


def with_chunk(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with further chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def rgb_profile(primaries: Sequence[Triple], gamma: float) -> bytes:
    """A profile of three primaries and one curve."""
    columns = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, primaries), strict=True))
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _profile(b"mntr", b"RGB ", b"XYZ ", columns | curves)


def grey_profile(gamma: float) -> bytes:
    """A profile of grey with one curve."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(*, inks: Sequence[int]) -> bytes:
    """A profile of four inks, each of which takes so much from the lightness, and that is all.

    A table of 2 x 2 x 2 x 2 colours in Lab.
    """
    corners = bytearray()
    for corner in range(16):
        taken = sum(ink for place, ink in enumerate(inks) if corner >> (3 - place) & 1)
        corners += bytes((max(0, 255 - taken), 128, 128))
    straight = bytes(range(256))
    matrix = b"".join(_s15(float(n in (0, 4, 8))) for n in range(9))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + 4 * straight + corners
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": bytes(table + 3 * straight)})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": name, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE), **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += padded
    header = struct.pack(">I", 128 + len(table) + len(body)) + bytes(4) + bytes((2, 0x10, 0, 0))
    header += kind + space + connection + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(28) + b"".join(map(_s15, WHITE))
    return header.ljust(128, b"\0") + table + body


def _xyz(values: Triple) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_s15, values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
