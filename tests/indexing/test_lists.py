"""Lists as people, spreadsheet programs and strangers write them."""

import csv
import gzip
import io
import json
import tracemalloc
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.indexing.lists import Listed, Refused
from app.indexing.sources import ListKind, list_kind_of, read_list
from app.indexing.streams import charset_of
from app.problems import InvalidRequest
from app.store.images import Entry

U = "http://127.0.0.1:9/a.jpg"
V = "http://127.0.0.1:9/b.jpg"
IMAGE = f"<image><loc>{V}</loc></image>"

quickly = settings(derandomize=True, deadline=None, max_examples=100, database=None)


def listed(data: bytes | str, kind: ListKind, charset: str | None = None) -> list[Listed]:
    given = data.encode() if isinstance(data, str) else data
    return list(read_list(io.BytesIO(given), kind, charset=charset))


def urls(data: bytes | str, kind: ListKind, charset: str | None = None) -> list[str]:
    return [entry.url for entry in listed(data, kind, charset)]


@pytest.mark.parametrize(
    "data",
    [
        f"url;title\r\n{U};Häuser\r\n".encode(),
        f"url\ttitle\r\n{U}\tHäuser\r\n".encode(),
        f"sep=;\r\nurl;title\r\n{U};Häuser\r\n".encode(),
        f"SEP=|\nurl|title\n{U}|Häuser\n".encode(),
        f'"sep=;"\r\n"url";"title"\r\n"{U}";"Häuser"\r\n'.encode(),
        f"sep=,\nurl,title\n{U},Häuser\n".encode(),
        f"title;url\n;\nHäuser;{U}\n".encode(),
        f"url,title\r\n{U},Häuser\r\n".encode("utf-16"),
        f"url,title\r\n{U},Häuser\r\n".encode("utf-8-sig"),
        b"\xfe\xff" + f"url,title\r\n{U},Häuser\r\n".encode("utf-16-be"),
        f"url,title\n{U},Häuser\n".encode("utf-16-le"),
        f"url,title\n{U},Häuser\n".encode("utf-32"),
        f"\r\n \r\n\r\nURL , Title\r\n{U},Häuser\r\n".encode(),
        f"url,title\r{U},Häuser\r".encode(),
        f"url,title\n{U},Häuser\n".encode("cp1252"),
        gzip.compress(f"url,title\n{U},Häuser\n".encode()),
        gzip.compress(gzip.compress(f"url,title\n{U},Häuser\n".encode())),
        f'url,title\n"{U}","Häuser"'.encode(),
        f"url,title\n{U},Häuser\n,\n , \n".encode(),
    ],
)
def test_tables_as_spreadsheet_programs_write_them(data: bytes) -> None:
    assert listed(data, "csv") == [Entry(U, "Häuser")]
    assert listed(data, "tsv") == [Entry(U, "Häuser")]


@pytest.mark.parametrize(
    ("content_type", "kind", "charset"),
    [
        ("Text/CSV; charset=UTF-16LE", "csv", "utf-16-le"),
        ('TEXT/PLAIN;CHARSET="windows-1252"', "text", "cp1252"),
        ("application/x-ndjson ; charset='iso-8859-1'", "jsonl", "iso8859-1"),
        ("text/csv; charset=klingon", "csv", None),
        ("text/csv; charset=hex", "csv", None),
        ("text/csv; charset=unicode_escape", "csv", None),
        ("text/csv; charset=undefined", "csv", None),
        ("text/csv; charset=" + "x" * 10_000, "csv", None),
        ("application/json", None, None),
        ("", None, None),
    ],
)
def test_a_content_type_names_the_kind_and_the_charset(
    content_type: str, kind: ListKind | None, charset: str | None
) -> None:
    assert (list_kind_of(content_type), charset_of(content_type)) == (kind, charset)


def test_a_charset_counts_unless_there_is_a_mark() -> None:
    for charset in ("cp1252", "shift_jis", "utf-16-le"):
        text = f"url,title\n{U},{'ハ' if charset == 'shift_jis' else 'é'}\n"
        [entry] = listed(text.encode(charset), "csv", charset)
        assert entry == Entry(U, "ハ" if charset == "shift_jis" else "é")
        assert urls(f"{U}\n".encode("utf-8-sig"), "text", charset) == [U]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (f'url,title\n{U},"oops\n{V},b\n{V},c\n', [(U, "line 2"), V, V]),
        (f'url,title\n{U},"a\nb"\n{V},"oops\n{V},c\n', [U, (V, "line 4"), V]),
        (f'url,title\n"{U}\n{V},b\n', [("(line 2)", "line 2"), V]),
        (f'url,title\n{U},"a ""quoted"" word"\n{V},5" wide\n', [U, V]),
        (f'url,title\n{U},"x"y\n{V},""\n', [U, V]),
    ],
)
def test_a_quote_that_is_never_closed_costs_its_own_record(data: str, expected: list[Any]) -> None:
    said: list[Any] = []
    for entry in listed(data, "csv"):
        if isinstance(entry, Refused) and "quote" in entry.reason:
            assert entry.reason.endswith("is never closed.")
            said.append((entry.url, entry.reason.removeprefix("The quote that opens in ")[:6]))
        elif isinstance(entry, Entry):
            said.append(entry.url)
    assert said == expected


def test_a_field_of_too_many_lines_is_taken_for_a_quote_too_many() -> None:
    first, *rest, last = listed(f'url,title\n{U},"' + "x\n" * 20_000 + f'"\n{V},y\n', "csv")
    assert first == Refused(U, "The quote that opens in line 2 is never closed.")
    assert (len(rest), last) == (20_000, Entry(V, "y"))


def test_quotes_within_a_table_mean_what_csv_means() -> None:
    data = f'url,title\n{U},"a ""b"", c\r\nd"\n{V},x"y\n'
    assert listed(data, "csv") == [Entry(U, 'a "b", c\nd'), Entry(V, 'x"y')]


@pytest.mark.parametrize("long", [200_000, 400_000, 600_000, 2_000_000])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_description_that_is_too_long_costs_itself_only(long: int, quoted: bool) -> None:
    said = f'"{"x" * long}"' if quoted else "x" * long
    refused, entry = listed(f"url,description\n{U},{said}\n{V},y\n", "csv")
    assert (refused.url, entry) == (U, Entry(V, None, "y"))
    assert isinstance(refused, Refused)
    longest = "Line 2 is longer than 500,000 characters."
    assert refused.reason == (
        longest if long > 500_000 else "Line 2: the description is longer than 10,000 characters."
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": "x" * 1001}, "the title is longer than 1,000 characters."),
        ({"description": "x" * 10_001}, "the description is longer than 10,000 characters."),
        ({"tags": ["x" * 201]}, "a tag is longer than 200 characters."),
        ({"tags": ["x"] * 101}, "there are more than 100 tags."),
        ({"metadata": {"x" * 101: 1}}, "a metadata key is longer than 100 characters."),
        ({"metadata": {"x": "y" * 201}}, "a metadata value is longer than 200 characters."),
        ({"metadata": {"": 1}}, "a metadata key is empty."),
        (
            {"metadata": {str(i): i for i in range(51)}},
            "there are more than 50 metadata keys.",
        ),
        ({"url": "http://h/" + "x" * 8000}, "The URL is longer than 8,000 characters."),
    ],
)
def test_every_text_has_a_limit(fields: dict[str, Any], reason: str) -> None:
    line = json.dumps({"url": U, **fields})
    refused, entry = listed(f'{line}\n"{V}"\n', "jsonl")
    assert entry == Entry(V)
    assert isinstance(refused, Refused)
    assert refused.reason == f"Line 1: {reason}"
    assert len(refused.url) < 300
    limits = {
        "url": U,
        "title": "x" * 1000,
        "description": "x" * 10_000,
        "tags": ["x" * 200] * 100,
        "metadata": {f"{i:0100}": "y" * 200 for i in range(50)},
    }
    assert isinstance(listed(json.dumps(limits), "jsonl")[0], Entry)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"url": "u", "metadata": {"a": NaN}}', "is not JSON"),
        ('{"url": "u", "metadata": {"a": -Infinity}}', "is not JSON"),
        ('{"url": "u", "metadata": {"a": 1e999}}', "has a number that is too large"),
        ('{"url": "u", "metadata": {"a": -1E400}}', "has a number that is too large"),
        ('{"url": "u", "metadata": {"a": %s}}' % ("9" * 5000), "has a number that is too large"),
        ('{"url": "u", "metadata": {"a": %s}}' % ("9" * 300), "has a number that is too large"),
        ("[" * 50_000 + "]" * 50_000, "is nested too deeply"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "is nested too deeply"),
        ("[" * 50_000, "is nested too deeply"),
        ("nonsense", "is not JSON"),
        ('{"url": "u"} x', "is not JSON"),
        ("null", "has no URL"),
        ("7", "has no URL"),
        ('{"url": ["u"]}', "has no URL"),
        ('{"url": {"a": 1}}', "has no URL"),
        ('{"url": "\\u0000 "}', "has no URL"),
        ('""', "has no URL"),
        ("x" * 600_000, "is longer than 500,000 characters"),
    ],
)
def test_a_line_of_json_fails_alone(line: str, reason: str) -> None:
    data = f'"{U}"\n{line}\n"{V}"\n'
    assert listed(data, "jsonl") == [
        Entry(U),
        Refused("(line 2)", f"Line 2 {reason}."),
        Entry(V),
    ]


def test_a_long_comment_is_one_and_a_long_line_is_named() -> None:
    data = f"#{'x' * 700_000}\n{U}\n{'y' * 700_000}\n{V}\n"
    assert urls(data, "text") == [U, "(line 3)", V]


def test_a_list_may_be_damaged_or_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(f"{U}\n".encode() * 1000)
    for data in (packed[:-20], packed[:10] + b"\0" * 50, b"\x1f\x8b\x08"):
        with pytest.raises(InvalidRequest, match="gzip-compressed and damaged"):
            listed(data, "text")
    monkeypatch.setattr("app.indexing.streams.LARGEST_LIST", 100)
    with pytest.raises(InvalidRequest, match="larger than 0 MB"):
        listed(packed, "text")


class Generated(io.RawIOBase):
    """A list that no memory need hold."""

    def __init__(self, head: bytes, filling: bytes, megabytes: int, tail: bytes) -> None:
        self._parts = self._generate(head, filling * (1_000_000 // len(filling)), megabytes, tail)
        self._rest = b""

    @staticmethod
    def _generate(head: bytes, filling: bytes, times: int, tail: bytes) -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield filling
        yield tail

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._parts, b"")
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length


@pytest.mark.parametrize(
    ("kind", "head", "filling", "megabytes", "tail"),
    [
        ("csv", f'url,title\n{U},"', b"x", 300, f'"\n{V},y\n'),
        ("csv", f"url,title\n{U},", b'"', 20, f"\n{V},y\n"),
        ("csv", f'url,title\n{U},"', b"x" * 999 + b"\n", 4, f'"\n{V},y\n'),
        ("csv", f"url,title\n{U},", b'x","' + b"y" * 999 + b"\n", 4, f"\n{V},y\n"),
        ("text", "", b"x", 20, f"\n{V}\n"),
        ("jsonl", '{"url": "', b"[", 20, f'"}}\n"{V}"\n'),
        ("sitemap", "<urlset><image><loc>", b"x", 20, f"</loc></image>{IMAGE}</urlset>"),
    ],
)
def test_a_line_without_end_takes_no_memory(
    kind: ListKind, head: str, filling: bytes, megabytes: int, tail: str
) -> None:
    file = Generated(head.encode(), filling, megabytes, tail.encode())
    tracemalloc.start()
    [last] = deque(read_list(io.BufferedReader(file), kind), maxlen=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last.url == V
    assert peak < 12_000_000


# What a cell may hold: no NUL, and no half of a pair of surrogates; csv does not quote all \\r.
cells = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30)
names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=10)


@quickly
@given(
    rows=st.lists(st.tuples(names, cells, cells), max_size=8),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    blank=st.integers(0, 3),
)
def test_what_csv_writes_is_read_as_it_was(
    rows: list[tuple[str, str, str]],
    delimiter: str,
    ending: str,
    encoding: str,
    quoting: Any,
    blank: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(["title", "url", "description"])
    for name, title, description in rows:
        writer.writerow([title, f"http://h/{name}", description])
    data = (ending * blank + text.getvalue()).encode(encoding)

    def plain(cell: str) -> str | None:
        return cell.strip() if cell else None

    assert listed(data, "csv") == [
        Entry(f"http://h/{name}", plain(title), plain(description))
        for name, title, description in rows
    ]


@quickly
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text('url,;\t"\r\n=sep#{}[]<>/&:\\ é\0', max_size=300).map(str.encode),
        st.binary(max_size=200).map(gzip.compress),
        st.binary(max_size=60).map(lambda b: b"url,title\n" + b + b"\n"),
        st.binary(max_size=60).map(lambda b: b"<urlset>" + b + b"</urlset>"),
    ),
    kind=st.sampled_from(["text", "csv", "tsv", "jsonl", "sitemap"]),
    charset=st.sampled_from([None, "utf-16", "utf-16-le", "shift_jis", "cp1252", "gb18030"]),
)
def test_whatever_is_sent_is_read_or_refused(
    data: bytes, kind: ListKind, charset: str | None
) -> None:
    with suppress(InvalidRequest):
        for entry in listed(data, kind, charset):
            assert entry.url


@quickly
@given(
    garbage=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
    kind=st.sampled_from(["text", "csv", "jsonl"]),
)
def test_a_line_of_garbage_costs_no_other(garbage: str, kind: ListKind) -> None:
    head = "url,title\n" if kind == "csv" else ""
    good = f'"{U}"' if kind == "jsonl" else U
    data = f"{head}{good}\n{garbage}\n{good}\n"
    assert urls(data, kind)[0] == U
    assert urls(data, kind)[-1] == U
    assert 2 <= len(listed(data, kind)) <= 3
