"""Sitemaps (sitemaps.org, and its image extension), read as a stream.

Only the image or sitemap currently being read is held in memory.
"""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from app.indexing.lists import Listed, Refused, Sitemap, checked
from app.indexing.streams import encoding_of, unpacked
from app.problems import InvalidRequest

# The limit of sitemaps.org, doubled.
LARGEST_SITEMAP = 100_000_000
# A sitemap has four levels.
DEEPEST = 100
# Longer text is refused in any case, so the rest is not kept.
LONGEST_TEXT = 20_000
BYTES_AT_ONCE = 1 << 16

_ROOTS = ("urlset", "sitemapindex")
_LOCATIONS = ("image", "sitemap")


def read_sitemap(file: BinaryIO, *, charset: str | None = None) -> Iterator[Listed]:
    """Yield the images of a sitemap, or the sitemaps of an index; raises `InvalidRequest`."""
    target = _Target()
    parser = cast(Any, DefusedXMLParser)(target=target)
    with unpacked(file, most=LARGEST_SITEMAP) as (stream, head):
        try:
            for piece in _pieces(stream, head, charset):
                parser.feed(piece)
                yield from target.taken()
            parser.close()
            yield from target.taken()
        except DefusedXmlException as exc:
            raise InvalidRequest("The sitemap is not readable XML: it declares entities.") from exc
        except (ParseError, ValueError, LookupError) as exc:
            raise InvalidRequest(f"The sitemap is not readable XML: {exc}.") from exc


def looks_like_xml(head: bytes) -> bool:
    """Return whether a decompressed list is XML, given its beginning."""
    return head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def _pieces(stream: BinaryIO, head: bytes, charset: str | None) -> Iterator[bytes | str]:
    """Yield a document in pieces, without leading white space.

    Text with a byte order mark or a known charset is decoded here; otherwise the XML parser detects
    the encoding.
    """
    encoding = encoding_of(head, charset)
    if encoding == "utf-8":
        first = b""
        while not first and (piece := stream.read(BYTES_AT_ONCE)):
            first = piece.lstrip()
        yield first
        while piece := stream.read(BYTES_AT_ONCE):
            yield piece
        return
    text = io.TextIOWrapper(cast(Any, stream), encoding, errors="replace")
    begun = False
    while piece := text.read(BYTES_AT_ONCE):
        piece = piece if begun else piece.lstrip()
        begun = begun or bool(piece)
        yield piece


class _Target:
    """Collects what the parser reports (a target of `xml.etree.ElementTree.XMLParser`)."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._found: list[Listed] = []
        self._said: dict[str, str] | None = None
        self._text: list[str] = []
        self._length = 0

    def taken(self) -> list[Listed]:
        """Return the entries found since the last call."""
        found, self._found = self._found, []
        return found

    def start(self, tag: str, _: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if not self._path and name not in _ROOTS:
            raise ValueError(f"it begins with <{name[:50]}>, which no sitemap does")
        if len(self._path) >= DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if name in _LOCATIONS:
            self._said = {}
        self._path.append(name)
        self._text, self._length = [], 0

    def data(self, text: str) -> None:
        if self._said is not None and self._length <= LONGEST_TEXT:
            self._text.append(text[: LONGEST_TEXT + 1])
            self._length += len(text)

    def end(self, _: str) -> None:
        name, said = self._path.pop(), self._said
        if said is None:
            return
        if name in _LOCATIONS:
            self._said = None
            if said.get("loc"):
                self._found.append(_listed(name, said))
        elif self._path and self._path[-1] in _LOCATIONS:
            said.setdefault(name, "".join(self._text).strip())
        self._text = []

    def close(self) -> None:
        pass


def _listed(name: str, said: dict[str, str]) -> Listed:
    listed = checked(said["loc"], said.get("title") or said.get("caption"))
    if name == "sitemap" and not isinstance(listed, Refused):
        return Sitemap(listed.url)
    return listed
