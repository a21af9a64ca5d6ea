"""Reads lists as lines of text, whatever their compression and encoding.

Lines and lists are limited in size: a list of a million lines takes as little memory as one of a
single line.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from app.problems import InvalidRequest

# Characters kept of a line: any entry within its limits fits, even if fully escaped.
LONGEST_LINE = 500_000
# Bytes of a list, decompressed.
LARGEST_LIST = 2_000_000_000

_GZIP = b"\x1f\x8b"
# One by the transport, and one of the file itself.
_MOST_PACKINGS = 2
# The mark of UTF-32 begins with that of UTF-16, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_MARK = 4
# Python's codecs include some that are not charsets.
_CHARSETS = re.compile(
    r"ascii|utf-(8|16|32)|iso8859|cp\d|koi8|mac-|gb|big5|shift_jis|euc_|iso2022|tis-620|hz"
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line, including its line end if it has one, and its number, counted from 1.

    For a line that is too long, `text` is its beginning, and `quotes` the number of double quotes
    in the rest.
    """

    number: int
    text: str
    is_cut: bool = False
    quotes: int = 0


class _Bytes(io.RawIOBase):
    """A stream that starts with bytes already read, and raises when it becomes too large."""

    def __init__(self, head: bytes, rest: BinaryIO, *, most: int) -> None:
        self._head, self._rest = head, rest
        self._left, self._most = most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)]
        self._head = self._head[len(data) :]
        data += self._rest.read(len(buffer) - len(data))
        self._left -= len(data)
        if self._left < 0:
            raise InvalidRequest(f"The list is larger than {self._most / 1e6:,.0f} MB.")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def unpacked(file: BinaryIO, *, most: int) -> Generator[tuple[BinaryIO, bytes]]:
    """Open a list and yield its stream, decompressed if it is gzip, and its first few bytes.

    The name does not matter, as a server may have decompressed the list on the way. Within the
    context, `InvalidRequest` is raised for more than `most` bytes, or for damaged data.
    """
    packings = 0
    try:
        head, stream = _begun(file, most=most)
        while head.startswith(_GZIP) and packings < _MOST_PACKINGS:
            packings += 1
            head, stream = _begun(cast(BinaryIO, gzip.GzipFile(fileobj=stream)), most=most)
        yield stream, head
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise InvalidRequest("The list is gzip-compressed and damaged.") from exc
    except OSError as exc:
        raise InvalidRequest(f"The list cannot be read: {exc.strerror or exc}.") from exc


def charset_of(content_type: str) -> str | None:
    """Return the charset that a Content-Type declares, if Python knows it."""
    found = re.search(r";\s*charset\s*=\s*[\"']?([\w.:+-]{1,40})", content_type, re.IGNORECASE)
    with suppress(LookupError, ValueError):
        name = codecs.lookup(found[1]).name if found else ""
        return name if _CHARSETS.match(name) else None
    return None


def has_mark(head: bytes) -> bool:
    """Return whether a text begins with a byte order mark."""
    return any(head.startswith(mark) for mark, _ in _MARKS)


def encoding_of(head: bytes, charset: str | None) -> str:
    """Return the encoding of a text: by its byte order mark, as declared, or UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    order = "be" if head[:1] == b"\0" else "le"
    if charset in ("utf-16", "utf-32"):
        return f"{charset}-{order}"
    if charset is not None:
        return charset
    return f"utf-16-{order}" if 0 in head[:2] and any(head[:2]) else "utf-8"


def lines_of(file: BinaryIO, *, charset: str | None = None) -> Iterator[Line]:
    """Yield the lines of a list. `charset` applies unless there is a byte order mark.

    Bytes invalid in that encoding are read as Windows-1252, which spreadsheet programs use. Raises
    `InvalidRequest`.
    """
    with unpacked(file, most=LARGEST_LIST) as (stream, head):
        text = io.TextIOWrapper(
            cast(Any, stream), encoding_of(head, charset), errors="lookalike", newline=""
        )
        number = 0
        try:
            while line := _line(text, number := number + 1):
                yield line
        except UnicodeError as exc:
            raise InvalidRequest(f"Line {number} of the list is not text: {exc}.") from exc


def _begun(file: BinaryIO, *, most: int) -> tuple[bytes, BinaryIO]:
    """Return the first bytes of a stream, and the stream rewound to its start."""
    head = file.read(_LONGEST_MARK)
    return head, cast(BinaryIO, io.BufferedReader(_Bytes(head, file, most=most), 1 << 16))


def _line(text: io.TextIOWrapper, number: int) -> Line | None:
    said = text.readline(LONGEST_LINE)
    if not said:
        return None
    if len(said) < LONGEST_LINE or said.endswith(("\n", "\r")):
        return Line(number, said)
    quotes = 0
    while rest := text.readline(LONGEST_LINE):
        quotes += rest.count('"')
        if rest.endswith(("\n", "\r")):
            break
    return Line(number, said, is_cut=True, quotes=quotes)


def _windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252", "replace"), error.end


codecs.register_error("lookalike", _windows)
