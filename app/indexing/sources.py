"""What people name to have it indexed: URLs, lists of URLs, sitemaps, files and folders.

Everything is read as a stream, so that a list of a million lines takes no memory.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import urlsplit

import fsspec
from defusedxml import ElementTree

from app.indexing.files import find_files
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Entry
from app.store.database import storable
from app.store.filters import MetadataValue
from app.store.items import NewItem

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

# sitemaps.org and its image extension, by their names without the namespace.
_LOCATIONS = ("image", "sitemap")
# A sitemap index lists sitemaps, and nothing deeper (sitemaps.org).
DEEPEST_SITEMAP = 1
LONGEST_LINE = 100_000
# A table's columns for keys of the user's own begin so.
METADATA = "metadata."
LONGEST_KEY, MOST_KEYS = 100, 50


def list_kind(name: str) -> ListKind | None:
    """Return what kind of list a file's name or URL promises, None if it is no list."""
    path = PurePosixPath(urlsplit(name).path.removesuffix(".gz"))
    return KINDS.get(path.suffix.lower())


def is_web(address: str) -> bool:
    """Return whether an address is fetched over HTTP."""
    return address.lower().startswith(("http://", "https://"))


def items_of(source: str, *, fetch: Callable[[str], bytes], depth: int = 0) -> Iterator[NewItem]:
    """Yield what a source names: a URL, a list, a file, or every picture file under a folder.

    `fetch` gets lists and sitemaps from the web. Raises `NotFound` for a file that does not exist,
    and `InvalidRequest` for a list that cannot be read, or sitemaps that go round in circles.
    """
    if depth > DEEPEST_SITEMAP:
        raise InvalidRequest(f"{source} is a sitemap of a sitemap of a sitemap.")
    kind = list_kind(source)
    if kind is not None and not Path(source).is_dir():
        with _opened(source, fetch) as file:
            for entry in read_list(file, kind):
                if kind == "sitemap" and list_kind(entry.url) == "sitemap":
                    yield from items_of(entry.url, fetch=fetch, depth=depth + 1)
                else:
                    yield _item(entry, source)
    elif is_web(source):
        yield NewItem("web", Entry(source))
    else:
        for url in find_files(source):
            yield NewItem("file", Entry(url))


def read_list(file: BinaryIO, kind: ListKind) -> Iterator[Entry]:
    """Yield the entries of a list, one at a time.

    A text has one URL per line, and `#` starts a comment. A table has a header with `url` and, if
    there are any, `title`, `description`, `tags` (separated by `;`) and columns such as
    `metadata.sku`. JSON lines are URLs or objects of the same names, with `metadata` an object. A
    sitemap's entries are its images; those of a sitemap index are the sitemaps. A line without a
    URL is an entry that says so in place of its URL. Raises `InvalidRequest`.
    """
    if kind == "sitemap":
        return _sitemap(file)
    lines = _lines(file)
    if kind == "text":
        return _text(lines)
    if kind == "jsonl":
        return _json_lines(lines)
    return _table(lines, delimiter="\t" if kind == "tsv" else ",")


def _lines(file: BinaryIO) -> Iterator[str]:
    text = io.TextIOWrapper(cast(Any, file), "utf-8-sig", errors="replace", newline="")
    try:
        yield from text
    finally:
        # The file is its opener's to close, and may be closed already.
        with suppress(ValueError):
            text.detach()


def _text(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        url = line.strip()
        if url and not url.startswith("#"):
            yield Entry(storable(url)[:LONGEST_LINE])


def _table(lines: Iterable[str], *, delimiter: str) -> Iterator[Entry]:
    reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        names = {name.strip().lower(): name for name in reader.fieldnames or () if name}
        if "url" not in names:
            raise InvalidRequest(
                f"The table's first line must name a column `url`; it has {', '.join(names)}."
            )
        for row in reader:
            yield _entry({name: row.get(given) for name, given in names.items()}, reader.line_num)
    except csv.Error as exc:
        raise InvalidRequest(f"Line {reader.line_num + 1} of the table: {exc}.") from exc


def _json_lines(lines: Iterable[str]) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            yield Entry(f"(line {number} is not JSON)")
            continue
        fields = {"url": value} if isinstance(value, str) else value
        yield _entry(cast(dict[str, Any], fields) if isinstance(fields, dict) else {}, number)


def _entry(fields: dict[str, Any], line: int) -> Entry:
    tags = fields.get("tags")
    if isinstance(tags, str):
        tags = re.split(r"[;|]", tags)
    listed = cast(list[object], tags) if isinstance(tags, list) else None
    given = None if listed is None else [storable(str(tag)).strip() for tag in listed]
    return Entry(
        storable(str(fields.get("url") or "")).strip() or f"(line {line} has no url)",
        _optional(fields.get("title")),
        _optional(fields.get("description")),
        None if given is None else [tag for tag in given if tag],
        _metadata(fields),
    )


def _metadata(fields: dict[str, Any]) -> dict[str, MetadataValue] | None:
    given: dict[str, Any] = {
        name.removeprefix(METADATA): value
        for name, value in fields.items()
        if name.startswith(METADATA) and value
    }
    if isinstance(fields.get("metadata"), dict):
        given |= fields["metadata"]
    plain = {
        storable(key)[:LONGEST_KEY]: value
        if isinstance(value, int | float)
        else storable(str(value))
        for key, value in given.items()
        if value is not None
    }
    return dict(islice(plain.items(), MOST_KEYS)) or None


def _optional(value: object) -> str | None:
    return storable(str(value)).strip() if value else None


def _sitemap(file: BinaryIO) -> Iterator[Entry]:
    try:
        for _, element in ElementTree.iterparse(file, events=("end",)):
            if _name(element) in _LOCATIONS:
                said = {_name(child): (child.text or "").strip() for child in element}
                if said.get("loc"):
                    title = said.get("title") or said.get("caption")
                    yield Entry(storable(said["loc"]), title=_optional(title))
            if _name(element) in ("url", "sitemap"):
                element.clear()
    except (ElementTree.ParseError, ValueError) as exc:
        raise InvalidRequest(f"The sitemap is not XML that can be read: {exc}.") from exc


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


@contextmanager
def _opened(source: str, fetch: Callable[[str], bytes]) -> Generator[BinaryIO]:
    """Open a list; what ends in .gz is unpacked."""
    if is_web(source):
        file: Any = io.BytesIO(fetch(source))
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file) if source.endswith(".gz") else file)
        return
    opened = cast(Any, fsspec).open(source, "rb", compression="infer")
    try:
        file = opened.__enter__()
    except OSError as exc:
        raise NotFound(f"{source} cannot be read: {exc.strerror or exc}.") from exc
    try:
        yield file
    finally:
        opened.__exit__(None, None, None)


def _item(entry: Entry, source: str) -> NewItem:
    """Return an entry of a list as an item; what is no URL is a file beside the list."""
    if is_web(entry.url) or is_web(source) or entry.url.startswith("("):
        return NewItem("web", entry)
    if "://" in entry.url:
        return NewItem("file", entry)
    if "://" in source:
        return NewItem("file", replace(entry, url=f"{source.rpartition('/')[0]}/{entry.url}"))
    return NewItem("file", replace(entry, url=(Path(source).parent / entry.url).resolve().as_uri()))
