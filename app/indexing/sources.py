"""Sources of images to index: URLs, lists of URLs, sitemaps, files and folders.

Everything is streamed, so that a list of a million lines takes no memory. A line, or a sitemap of
an index, that is invalid becomes a failed item; the others are not affected.
"""

import io
import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

import fsspec

from app.indexing.files import find_files, is_local, local_path, local_url, open_regular
from app.indexing.lists import SHOWN, Listed, Refused, Sitemap, read_json_lines, read_table
from app.indexing.lists import read_text as read_urls
from app.indexing.passed_over import PassedOver
from app.indexing.sitemaps import LARGEST_SITEMAP, looks_like_xml, read_sitemap
from app.indexing.streams import lines_of, unpacked
from app.problems import InvalidRequest, NotFound, Problem
from app.store.images import Entry
from app.store.items import NewItem
from app.store.urls import LONGEST_URL, URL_TOO_LONG, is_web, without_credentials

ListKind = Literal["text", "csv", "tsv", "jsonl", "sitemap"]

KINDS: dict[str, ListKind] = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xml": "sitemap",
}
LIST_MEDIA_TYPES: dict[str, ListKind] = {
    "text/plain": "text",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/xml": "sitemap",
    "text/xml": "sitemap",
}
# Field delimiters of tables; the first is used if the column names do not settle it.
DELIMITERS = {"csv": (",", ";", "\t"), "tsv": ("\t", ",", ";")}

# A sitemap index lists sitemaps, but no other indexes (sitemaps.org).
DEEPEST_SITEMAP = 1
# Enough of a sitemap to see its first character or its first URL.
BEGINNING = 10_000

ONLY_WEB = "A list from the web may name only http and https URLs."
ONLY_SAME = "A list in remote storage may name only web URLs and files in the same storage."
NO_CHAINS = "A list may not name chained file systems."

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*(?=://)", re.IGNORECASE)

Fetch = Callable[[str], bytes]


def list_kind(name: str) -> ListKind | None:
    """Return the kind of list that a file name or URL suggests; None if it is not a list."""
    if _SCHEME.match(name):
        name = name.partition("#")[0].partition("?")[0]
    path = PurePosixPath(name)
    return KINDS.get(
        (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    )


def list_kind_of(content_type: str) -> ListKind | None:
    """Return the kind of list for a Content-Type; None if it is not a list."""
    return LIST_MEDIA_TYPES.get(content_type.partition(";")[0].strip().lower())


def items_of(
    source: str, *, fetch: Fetch, passed_over: PassedOver | None = None
) -> Iterator[NewItem]:
    """Yield the items of a source: a URL, a list, a file, or every image file under a folder.

    `fetch` gets lists and sitemaps from the web. Raises `NotFound` for a file that does not exist,
    and what `fetch` raises or `InvalidRequest` for a list that cannot be read. A sitemap of an
    index that cannot be read becomes a failed item instead.
    """
    kind = list_kind(source)
    if kind is not None and not (is_local(source) and Path(local_path(source)).is_dir()):
        with _opened(source, fetch) as file:
            yield from _items(read_list(file, kind), source, fetch, depth=0)
    elif is_web(source):
        yield web_item(Entry(source))
    else:
        for url in find_files(source, passed_over=passed_over):
            yield _short(NewItem("file", Entry(url)))


def posted_items(
    file: BinaryIO, kind: ListKind, *, fetch: Fetch, charset: str | None = None
) -> Iterator[NewItem]:
    """Yield the items of a list sent by a client; the rules for lists from the web apply."""
    yield from _items(read_list(file, kind, charset=charset), None, fetch, depth=0)


def web_item(entry: Entry) -> NewItem:
    """Return an item to be fetched, already failed if its URL is too long."""
    return _short(NewItem("web", entry))


def read_list(file: BinaryIO, kind: ListKind, *, charset: str | None = None) -> Iterator[Listed]:
    """Yield the entries of a list, one at a time.

    A text has one URL per line, and `#` starts a comment. A table has a header with `url` and
    optionally `title`, `description`, `tags` (separated by `;`) and columns such as `metadata.sku`,
    delimited by commas, semicolons or tabs. JSON lines are URLs or objects with the same names, in
    which `metadata` is an object. A sitemap's entries are its images; those of a sitemap index are
    its sitemaps. Invalid entries are `Refused`. Raises `InvalidRequest`.

    `charset` is the one declared by whoever sent the list.
    """
    if kind == "sitemap":
        return read_sitemap(file, charset=charset)
    lines = lines_of(file, charset=charset)
    if kind == "text":
        return read_urls(lines)
    if kind == "jsonl":
        return read_json_lines(lines)
    return read_table(lines, delimiters=DELIMITERS[kind])


def _items(
    listed: Iterator[Listed], source: str | None, fetch: Fetch, *, depth: int
) -> Iterator[NewItem]:
    """Yield the items of a list and of the sitemaps it names."""
    for entry in listed:
        if isinstance(entry, Sitemap):
            if depth >= DEEPEST_SITEMAP:
                raise InvalidRequest("A sitemap index may not list another sitemap index.")
            yield from _child(entry.url, source, fetch, depth=depth + 1)
        else:
            yield _item(entry, source)


def _child(url: str, source: str | None, fetch: Fetch, *, depth: int) -> Iterator[NewItem]:
    """Yield the items of a sitemap named by an index, or one failed item that says why not."""
    item = _item(Entry(url), source)
    if item.reason is not None:
        yield item
        return
    place = url if item.source == "web" else item.entry.url
    try:
        with _opened(place, fetch) as file, unpacked(file, most=LARGEST_SITEMAP) as (stream, _):
            listed = read_list(stream, _kind_of_child(stream))
            yield from _items(listed, place, fetch, depth=depth)
    except Problem as problem:
        yield NewItem(item.source, item.entry, f"The sitemap cannot be read: {problem.detail}")


def _kind_of_child(stream: BinaryIO) -> ListKind:
    """Tell XML sitemaps from plain lists of URLs by content; raises `InvalidRequest`."""
    beginning = cast(io.BufferedReader, stream).peek(BEGINNING)[:BEGINNING]
    if looks_like_xml(beginning):
        return "sitemap"
    if is_web(beginning.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").decode("latin")):
        return "text"
    raise InvalidRequest("It is neither XML nor a plain list of URLs.")


@contextmanager
def _opened(source: str, fetch: Fetch) -> Generator[BinaryIO]:
    """Open a list; raises `NotFound`, `NotAPicture` or what `fetch` raises."""
    if is_web(source):
        yield io.BytesIO(fetch(source))
        return
    if is_local(source):
        with open_regular(local_path(source)) as file:
            yield file
        return
    try:
        opened = cast(Any, fsspec).open(source, "rb")
        file = opened.__enter__()
    except Exception as exc:
        # Each kind of storage raises errors of its own.
        raise NotFound(f"{source} cannot be read: {exc}.") from exc
    try:
        yield file
    finally:
        opened.__exit__(None, None, None)


def _item(entry: Entry | Refused, source: str | None) -> NewItem:
    """Turn an entry of a list into an item; anything but a URL is a path relative to the list."""
    if isinstance(entry, Refused):
        return NewItem("web", Entry(entry.url), entry.reason)
    if is_web(entry.url):
        return web_item(entry)
    if source is None or is_web(source):
        return _failed(entry, ONLY_WEB)
    scheme = _SCHEME.match(entry.url)
    if scheme and "::" in scheme[0]:
        return _failed(entry, NO_CHAINS)
    if is_local(source):
        return _short(NewItem("file", _with_url(entry, _beside(entry.url, source))))
    if scheme is None and not entry.url.startswith(("/", "file:")):
        return _short(NewItem("file", _with_url(entry, f"{source.rpartition('/')[0]}/{entry.url}")))
    if scheme is None or not source.lower().startswith(f"{scheme[0].lower()}://"):
        return _failed(entry, ONLY_SAME)
    return _short(NewItem("file", entry))


def _beside(name: str, source: str) -> str:
    """Resolve a name in a list on this machine: a URL, or a path relative to the list."""
    if _SCHEME.match(name) or name.startswith("file:/"):
        return name
    folder = os.path.dirname(local_path(source))  # noqa: PTH120
    return local_url(os.path.realpath(os.path.join(folder, name)))  # noqa: PTH118


def _with_url(entry: Entry, url: str) -> Entry:
    return Entry(url, entry.title, entry.description, entry.tags, entry.metadata)


def _failed(entry: Entry, reason: str) -> NewItem:
    return NewItem("web", Entry(_shown(entry.url)), reason)


def _short(item: NewItem) -> NewItem:
    """Return the item, or a failed one if its URL is too long."""
    if len(item.entry.url) + len(item.entry.credentials or "") <= LONGEST_URL:
        return item
    return NewItem(item.source, Entry(_shown(item.entry.url)), URL_TOO_LONG)


def _shown(url: str) -> str:
    url = without_credentials(url)
    return url if len(url) <= LONGEST_URL else f"{url[:SHOWN]}…"
