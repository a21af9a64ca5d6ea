"""Reads HTTP responses, assuming that any part of them may be hostile."""

import math
import re
import zlib
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.problems import FetchFailed, FetchProblem, PictureTooLarge, UrlNotFound, UrlRefused

# The content encodings that we accept.
ACCEPTED = "gzip, deflate"
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


async def read_body(response: httpx.Response, *, max_bytes: int, conditional: bool) -> bytes | None:
    """Return the decompressed body of a response; None if it is 304 Not Modified."""
    if response.status_code == 304 and conditional:
        return None
    if not 200 <= response.status_code < 300 or response.status_code in WITHOUT_IMAGE:
        raise _answered(response)
    if response.status_code == 206 and not _is_whole(response.headers.get("Content-Range", "")):
        raise UrlRefused("The URL's server sends only part of the file.")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and (len(length) > LONGEST_LENGTH or int(length) > max_bytes):
        raise PictureTooLarge.over(max_bytes)
    body = _Body(response.headers.get_list("Content-Encoding", split_commas=True), max_bytes)
    async for chunk in response.aiter_raw():
        body.add(chunk)
    return body.data()


def _is_whole(content_range: str) -> bool:
    """Return whether a partial response, never requested, is complete (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes 0-([0-9]{1,18})/([0-9]{1,18})", content_range)
    return found is not None and int(found[1]) + 1 == int(found[2])


def _answered(response: httpx.Response) -> FetchProblem:
    status = response.status_code
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

    `encodings` are those of Content-Encoding. Raises `UrlRefused` for one that was not requested,
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
        self._packed = 0
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """Add a chunk; raises `PictureTooLarge`, or `FetchFailed` if decompression fails."""
        self._packed += len(chunk)
        if self._encoding and chunk:
            self._unpack = self._unpack or self._unpacker(chunk)
            # One byte over the limit shows that the body is too large.
            room = self._max_bytes + 1 - len(self._data)
            try:
                chunk = self._unpack.decompress(chunk, room)
            except zlib.error as exc:
                raise FetchFailed(UNREADABLE) from exc
        self._data += chunk
        if max(len(self._data), self._packed) > self._max_bytes:
            raise PictureTooLarge.over(self._max_bytes)

    def data(self) -> bytes:
        """Return the whole body; raises `FetchFailed` if its end is missing."""
        if self._unpack is not None and not self._unpack.eof:
            raise FetchFailed(UNREADABLE)
        return bytes(self._data)

    def _unpacker(self, first: bytes) -> Any:
        if self._encoding in _GZIP:
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        # Some servers send deflate without the required zlib header (RFC 9110, 8.4.1.2), whose
        # first byte has a low half of 8, unlike any raw stream.
        with_header = first[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
