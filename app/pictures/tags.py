"""Reads the tags of an EXIF block one by one, so that a bad one affects no other.

The block is a TIFF structure (TIFF 6.0; EXIF: CIPA DC-008). No content of it raises an error here.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags

Value = str | int | float
Number = int | float

# Longer lists of values and longer texts are cut off here.
MOST_VALUES = 100
LONGEST_TEXT = 1000
# Far more than any camera writes; a crafted block may have 65,535, each with a lot of data.
MOST_TAGS = 1000

_ASCII, _BYTE, _UNDEFINED = 2, 1, 7
_RATIONALS = (5, 10)
# The struct format of each type; a rational is two numbers.
_LETTERS = {
    1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f",
    12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
_INTEGERS = (1, 3, 4, 16)

# Read as text, whatever type the writer declared.
_TEXTS = frozenset(
    {
        *("Make", "Model", "Software", "Artist", "Copyright", "ImageDescription", "LensModel"),
        *("DateTime", "DateTimeOriginal", "DateTimeDigitized", "GPSDateStamp"),
        *("OffsetTime", "OffsetTimeOriginal", "OffsetTimeDigitized"),
        *("GPSLatitudeRef", "GPSLongitudeRef"),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory entry: its tag, and the type, number and location of its values.

    `place` is the offset of the entry itself in the block; the values are `size` bytes at `start`.
    """

    tag: int
    kind: int
    count: int
    place: int
    start: int
    size: int


class Block:
    """An EXIF block or a whole TIFF file; `order` is struct's, or empty if it is neither."""

    def __init__(self, data: bytes) -> None:
        # The prefix JPEG uses; some WebP and AVIF writers include it too, or repeat it.
        while data.startswith(b"Exif\0\0"):
            data = data[6:]
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        version = self._number("H", 2) if self.order else 0
        self.is_big = version == 43
        if version not in (42, 43):
            self.order = ""
        self.first = self._number("Q", 8) if self.is_big else self._number("I", 4)

    @property
    def entry_size(self) -> int:
        """The size of a directory entry, in bytes."""
        return 20 if self.is_big else 12

    @property
    def is_cut(self) -> bool:
        """Whether the data ends within the first directory, which TIFFs often have at the end."""
        count, start = self.count(self.first)
        return bool(self.order) and (start + count * self.entry_size > len(self.data))

    def count(self, place: int) -> tuple[int, int]:
        """Return the number of entries of the directory at an offset, and where they begin."""
        if self.is_big:
            return self._number("Q", place), place + 8
        return self._number("H", place), place + 2

    def entries(self, place: int) -> Iterator[Entry]:
        """Yield the readable entries of the directory at an offset."""
        if not self.order or not place:
            return
        count, start = self.count(place)
        for at in range(start, start + min(count, MOST_TAGS) * self.entry_size, self.entry_size):
            if at + self.entry_size > len(self.data):
                return
            entry = self._entry(at)
            if entry is not None:
                yield entry

    def _entry(self, at: int) -> Entry | None:
        tag, kind = self._number("H", at), self._number("H", at + 2)
        count = self._number("Q" if self.is_big else "I", at + 4)
        here, room = (at + 12, 8) if self.is_big else (at + 8, 4)
        letters = _LETTERS.get(kind)
        if letters is None or not count:
            return None
        size = struct.calcsize(self.order + letters) * count
        if size > room:
            here = self._number("Q" if self.is_big else "I", here)
        if here + size > len(self.data):
            return None
        return Entry(tag, kind, count, at, here, size)

    def bytes_of(self, entry: Entry, most: int) -> bytes:
        """Return the bytes of an entry's values, at most `most` of them."""
        return self.data[entry.start : entry.start + min(entry.size, most)]

    def numbers(self, entry: Entry) -> list[Number]:
        """Return the numbers of an entry; a rational with a zero denominator is NaN."""
        letters = _LETTERS[entry.kind]
        if letters == "s":
            return []
        size = struct.calcsize(self.order + letters)
        data = self.bytes_of(entry, MOST_VALUES * size)
        values = list(struct.iter_unpack(self.order + letters, data))
        if entry.kind in _RATIONALS:
            return [above / below if below else math.nan for above, below in values]
        return [value for (value,) in values]

    def _number(self, letter: str, at: int) -> int:
        size = struct.calcsize(self.order + letter)
        if not 0 <= at <= len(self.data) - size:
            return 0
        return struct.unpack_from(self.order + letter, self.data, at)[0]


def orientation(block: Block) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is absent or invalid."""
    turns = (_turn(block, entry) for entry in block.entries(block.first))
    return next((turn for turn in turns if turn), 1)


def _turn(block: Block, entry: Entry) -> int:
    if entry.tag != ExifTags.Base.Orientation or entry.kind not in _INTEGERS:
        return 0
    said = int(block.numbers(entry)[0])
    return said if 1 <= said <= 8 else 0


def named_tags(block: Block) -> dict[str, Value]:
    """Return the human-readable tags by name, with values that JSON can hold.

    Several numbers become a space-separated string, in which a NaN is `nan`.
    """
    found: dict[str, Value] = {}
    pointers: dict[int, int] = {}
    for entry in block.entries(block.first):
        if entry.tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            pointers[entry.tag] = int(next(iter(block.numbers(entry)), 0))
        if entry.tag != ExifTags.Base.Orientation or _turn(block, entry):
            _keep(found, block, entry, ExifTags.TAGS.get(entry.tag))
    for entry in block.entries(pointers.get(ExifTags.IFD.Exif, 0)):
        _keep(found, block, entry, ExifTags.TAGS.get(entry.tag))
    for entry in block.entries(pointers.get(ExifTags.IFD.GPSInfo, 0)):
        _keep(found, block, entry, ExifTags.GPSTAGS.get(entry.tag))
    return found


def _keep(found: dict[str, Value], block: Block, entry: Entry, name: str | None) -> None:
    if name is None:
        return
    value = _value(block, entry, name)
    if value is not None:
        found[name] = value


def _value(block: Block, entry: Entry, name: str) -> Value | None:
    if entry.kind == _ASCII or (name in _TEXTS and entry.kind in (_BYTE, _UNDEFINED)):
        return _text(block.bytes_of(entry, 4 * LONGEST_TEXT))
    # Private data of cameras and editors.
    if entry.kind == _UNDEFINED or (entry.kind == _BYTE and entry.count > 4):
        return None
    numbers = block.numbers(entry)
    if len(numbers) == 1:
        return numbers[0] if math.isfinite(numbers[0]) else None
    return " ".join(str(number) for number in numbers)[:LONGEST_TEXT]


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # Postgres text cannot contain NUL.
    return text.replace("\0", "").strip()[:LONGEST_TEXT] or None
