"""Reads HTTP responses, assuming that any part of them may be hostile."""

import asyncio
import math
import re
import zlib
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from app.problems import FetchFailed, FetchProblem, PictureTooLarge, UrlNotFound, UrlRefused

if TYPE_CHECKING:
    from aiohttp import ClientResponse

# We ask for none. Images are compressed already, and who asks for gzip gets bombs.
ASKED_ENCODING = "identity"
# Bodies of servers that compress all the same are unpacked in pieces of this size.
PIECE_BYTES = 256_000
_GZIP = ("gzip", "x-gzip")
# No Content and Reset Content (RFC 9110, 15.3).
WITHOUT_IMAGE = (204, 205)
# The most digits of a Content-Length.
LONGEST_LENGTH = 18
# The longest wait that a server may request.
MOST_RETRY_AFTER_S = 86_400
# Real validators have a few dozen characters.
LONGEST_VALIDATOR = 1000

UNREADABLE = "The URL's server sends a body that cannot be decompressed."


def validator(value: str | None) -> str | None:
    """Return a validator if it is safe to send back: printable ASCII of a sane length."""
    if value and value.isascii() and value.isprintable() and len(value) <= LONGEST_VALIDATOR:
        return value
    return None


def header(response: "ClientResponse", name: str) -> str | None:
    """Return the first header of a name: UTF-8, or else Latin-1."""
    value = response.headers.get(name)
    if value is None or value.isascii():
        return value
    said = value.encode("utf-8", "surrogateescape")
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said.decode("latin-1")


async def read_body(
    response: "ClientResponse", *, max_bytes: int, conditional: bool
) -> bytes | None:
    """Return the decompressed body of a response; None if it is 304 Not Modified."""
    if response.status == 304 and conditional:
        return None
    if not 200 <= response.status < 300 or response.status in WITHOUT_IMAGE:
        raise _answered(response)
    if response.status == 206 and not _is_whole(response.headers.get("Content-Range", "")):
        raise UrlRefused("The URL's server sends only part of the file.")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and (len(length) > LONGEST_LENGTH or int(length) > max_bytes):
        raise PictureTooLarge.over(max_bytes)
    encodings = ",".join(response.headers.getall("Content-Encoding", ())).split(",")
    body = _Body(encodings, max_bytes)
    async for chunk in response.content.iter_any():
        rest = body.add(chunk)
        while rest:
            # Unpacking takes far longer than reading: others have their turn in between.
            await asyncio.sleep(0)
            rest = body.add(rest)
    return body.data()


def _is_whole(content_range: str) -> bool:
    """Return whether a partial response, never requested, is complete (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes 0-([0-9]{1,18})/([0-9]{1,18})", content_range)
    return found is not None and int(found[1]) + 1 == int(found[2])


def _answered(response: "ClientResponse") -> FetchProblem:
    status = response.status
    detail = f"The URL's server answers {status}."
    if status in (404, 410):
        return UrlNotFound(detail)
    if status in WITHOUT_IMAGE:
        return UrlRefused(f"The URL's server answers {status}, without an image.")
    if status in (408, 425, 429) or status >= 500:
        problem = FetchFailed(detail)
        problem.retry_after_s = retry_after_s(response.headers.get("Retry-After", ""))
        return problem
    return UrlRefused(detail)


def retry_after_s(said: str) -> int | None:
    """Return the seconds that a Retry-After asks for, as a number or a date; at most a day.

    None if it is neither.
    """
    if said.isascii() and said.isdecimal():
        return min(int(said[:9]), MOST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(said)
        seconds = (date - datetime.now(date.tzinfo)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0, math.ceil(seconds)), MOST_RETRY_AFTER_S)


class _Body:
    """Collects a body of at most `max_bytes`, both compressed and decompressed.

    `encodings` are those of Content-Encoding. Raises `UrlRefused` for one that we cannot unpack,
    and for several at once, as decompression bombs use.
    """

    def __init__(self, encodings: Sequence[str], max_bytes: int) -> None:
        named = [name.strip().lower() for name in encodings]
        named = [name for name in named if name not in ("", "identity")]
        if len(named) > 1 or not {*named} <= {*_GZIP, "deflate"}:
            raise UrlRefused("The URL's server answers in an encoding that was not requested.")
        self._encoding = named[0] if named else ""
        self._unpack: Any = None
        self._max_bytes = max_bytes
        self._read = 0
        # Unlike a bytearray, this gives its bytes without a copy.
        self._data = BytesIO()

    def add(self, chunk: bytes) -> bytes:
        """Add a chunk, or the first piece of one; return what is left of it to be added.

        Raises `PictureTooLarge`, or `FetchFailed` if decompression fails.
        """
        rest = b""
        self._read += len(chunk)
        if self._encoding:
            self._unpack = self._unpack or self._unpacker(chunk)
            piece = self._unpacked(chunk)
            rest = self._unpack.unconsumed_tail
            self._read -= len(rest)
        else:
            piece = chunk
        self._write(piece)
        return rest

    def data(self) -> bytes:
        """Return the whole body; raises what `add` raises, also if the end is missing."""
        if self._unpack is not None:
            while piece := self._unpacked(b""):
                self._write(piece)
            if not self._unpack.eof:
                raise FetchFailed(UNREADABLE)
        return self._data.getvalue()

    def _unpacked(self, chunk: bytes) -> bytes:
        try:
            return self._unpack.decompress(chunk, PIECE_BYTES)
        except zlib.error as exc:
            raise FetchFailed(UNREADABLE) from exc

    def _write(self, piece: bytes) -> None:
        if max(self._data.tell() + len(piece), self._read) > self._max_bytes:
            raise PictureTooLarge.over(self._max_bytes)
        self._data.write(piece)

    def _unpacker(self, first: bytes) -> Any:
        if self._encoding in _GZIP:
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        # Some servers send deflate without the required zlib header (RFC 9110, 8.4.1.2), whose
        # first byte has a low half of 8, unlike any raw stream.
        with_header = first[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
