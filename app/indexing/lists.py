"""Lists of URLs: text, tables and JSON lines. An invalid line does not affect the others."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from app.indexing.requests import (
    MAX_DESCRIPTION,
    MAX_METADATA_KEY,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUE,
    MAX_TAG,
    MAX_TAGS,
    MAX_TITLE,
)
from app.indexing.streams import LONGEST_LINE, Line
from app.indexing.tables import Record, records
from app.problems import InvalidRequest
from app.store.database import storable
from app.store.filters import MetadataValue
from app.store.images import Entry
from app.store.urls import LONGEST_URL, URL_TOO_LONG, without_credentials

# Prefix of table columns that hold metadata.
METADATA = "metadata."
# What Postgres' bigint and floating point numbers hold exactly.
MOST_DIGITS = 15
NAMED = ("url", "title", "description", "tags")
# Characters shown of an overlong URL, or of a table's first line.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of a list that cannot be indexed, with the reason as a sentence.

    Without a usable URL, `url` is the line number, as in `(line 3)`.
    """

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sitemap:
    """A sitemap named by a sitemap index."""

    url: str


Listed: TypeAlias = Entry | Refused | Sitemap


def read_text(lines: Iterator[Line]) -> Iterator[Listed]:
    """Yield the URLs of a text, one per line; `#` starts a comment."""
    for line in lines:
        url = storable(line.text).strip()
        if url.startswith("#") or not (url or line.is_cut):
            continue
        yield _cut(line) if line.is_cut else checked(url)


def read_table(lines: Iterator[Line], *, delimiters: Sequence[str]) -> Iterator[Listed]:
    """Yield the rows of a table; raises `InvalidRequest` if it has no `url` column."""
    rows = records(lines, delimiters=delimiters, column="url")
    header = next(rows, None)
    names = [name.strip().lower() for name in header.fields] if header else []
    if "url" not in names:
        named = ", ".join(names)
        has = f"has {named[:SHOWN]}{'…' * (len(named) > SHOWN)}" if named else "is empty"
        raise InvalidRequest(f"The table's first line must name a column `url`; it {has}.")
    places = {
        name: place
        for place, name in reversed([*enumerate(names)])
        if name in NAMED or name.startswith(METADATA)
    }
    for row in rows:
        yield _row(row, places)


def read_json_lines(lines: Iterator[Line]) -> Iterator[Listed]:
    """Yield the entries of a JSON Lines text: URLs, or objects with a `url`."""
    for line in lines:
        if line.is_cut:
            yield _cut(line)
        elif line.text.strip():
            yield _json_line(line)


def checked(
    url: str,
    title: str | None = None,
    description: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, MetadataValue] | None = None,
    *,
    line: int | None = None,
) -> Entry | Refused:
    """Return an entry made of these fields, or `Refused` if one of them exceeds its limit."""
    url = storable(url).strip()
    entry = Entry(url, _said(title), _said(description), tags, metadata)
    reason = _complaint(entry)
    if len(url) > LONGEST_URL:
        entry, reason = Entry(f"{entry.url[:SHOWN]}…"), URL_TOO_LONG
    if reason is None:
        return entry
    where = "" if line is None else f"Line {line}: "
    return Refused(entry.url, where + reason if where else reason[0].upper() + reason[1:])


def _row(row: Record, places: Mapping[str, int]) -> Listed:
    fields = {name: row.fields[i] for name, i in places.items() if i < len(row.fields)}
    if row.reason is None:
        return _entry(fields, row.line)
    url = storable(fields.get("url", "")).strip()[:SHOWN]
    return Refused(without_credentials(url) or f"(line {row.line})", row.reason)


def _json_line(line: Line) -> Listed:
    try:
        value = json.loads(
            line.text, parse_constant=_no_number, parse_float=_number, parse_int=_integer
        )
        fields = {"url": value} if isinstance(value, str) else value
        return _entry(cast(dict[str, Any], fields) if isinstance(fields, dict) else {}, line.number)
    except RecursionError:
        reason = "is nested too deeply"
    except OverflowError:
        reason = "has a number that is too large"
    except ValueError:
        reason = "is not JSON"
    return Refused(f"(line {line.number})", f"Line {line.number} {reason}.")


def _entry(fields: dict[str, Any], line: int) -> Entry | Refused:
    url = fields.get("url")
    if not isinstance(url, str) or not storable(url).strip():
        return Refused(f"(line {line})", f"Line {line} has no URL.")
    tags = fields.get("tags")
    if isinstance(tags, str):
        tags = re.split(r"[;|]", tags)
    listed = cast(list[object], tags) if isinstance(tags, list) else None
    given = None if listed is None else [storable(str(tag)).strip() for tag in listed]
    return checked(
        url,
        fields.get("title"),
        fields.get("description"),
        None if given is None else [tag for tag in given if tag],
        _metadata(fields),
        line=line,
    )


def typed(written: Any) -> Any:
    """Return a table's cell, which is text, as the number that it is written exactly like.

    `00123` and `1.10` are text: as numbers, they would be written otherwise.
    """
    if not isinstance(written, str) or len(written) > MOST_DIGITS:
        return written
    for kind in (int, float):
        try:
            if str(kind(written)) == written and math.isfinite(float(written)):
                return kind(written)
        except ValueError:
            continue
    return written


def _metadata(fields: dict[str, Any]) -> dict[str, MetadataValue] | None:
    given: dict[str, Any] = {
        name.removeprefix(METADATA): typed(value)
        for name, value in fields.items()
        if name.startswith(METADATA) and value
    }
    if isinstance(fields.get("metadata"), dict):
        given |= fields["metadata"]
    plain = {
        storable(key): value if isinstance(value, int | float) else storable(str(value))
        for key, value in given.items()
        if value is not None
    }
    return plain or None


def _complaint(entry: Entry) -> str | None:
    """Return a sentence about the first field that exceeds its limit, if any."""
    tags, metadata = entry.tags or (), entry.metadata or {}
    lengths = [
        ("the title", len(entry.title or ""), MAX_TITLE),
        ("the description", len(entry.description or ""), MAX_DESCRIPTION),
        ("a tag", max(map(len, tags), default=0), MAX_TAG),
        ("a metadata key", max(map(len, metadata), default=0), MAX_METADATA_KEY),
        (
            "a metadata value",
            max((len(str(value)) for value in metadata.values()), default=0),
            MAX_METADATA_VALUE,
        ),
    ]
    for name, length, longest in lengths:
        if length > longest:
            return f"{name} is longer than {longest:,} characters."
    if len(tags) > MAX_TAGS:
        return f"there are more than {MAX_TAGS} tags."
    if len(metadata) > MAX_METADATA_KEYS:
        return f"there are more than {MAX_METADATA_KEYS} metadata keys."
    return "a metadata key is empty." if "" in metadata else None


def _cut(line: Line) -> Refused:
    reason = f"Line {line.number} is longer than {LONGEST_LINE:,} characters."
    return Refused(f"(line {line.number})", reason)


def _said(value: object) -> str | None:
    return storable(str(value)).strip() if value else None


def _no_number(_: str) -> float:
    raise ValueError


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise OverflowError
    return number


def _integer(digits: str) -> int:
    if len(digits) > MAX_METADATA_VALUE:
        raise OverflowError
    return int(digits)
