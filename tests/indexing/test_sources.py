import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from app.indexing.sources import ListKind, items_of, list_kind, read_list
from app.problems import InvalidRequest, NotFound
from app.store.catalog import Entry
from app.store.items import NewItem
from tests.conftest import Server
from tests.image_host import ImageHost

SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
        xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc>https://example.com/page</loc>
    <image:image><image:loc>https://example.com/a.jpg</image:loc></image:image>
    <image:image><image:loc> https://example.com/b.jpg </image:loc>
      <image:title>B</image:title></image:image>
  </url>
</urlset>"""
INDEX = """<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
  <sitemap><loc>{}</loc></sitemap></sitemapindex>"""


def entries(text: str, kind: ListKind) -> list[Entry]:
    return list(read_list(io.BytesIO(text.encode()), kind))


def named(source: str, web: dict[str, bytes] | None = None) -> list[NewItem]:
    return list(items_of(source, fetch=lambda url: (web or {})[url]))


def test_a_text_has_one_url_per_line() -> None:
    text = "https://a.example/1.jpg\n\n  https://a.example/2.jpg \r\n# not this\n"
    assert entries(text, "text") == [
        Entry("https://a.example/1.jpg"),
        Entry("https://a.example/2.jpg"),
    ]


def test_a_table_says_more() -> None:
    text = '\ufeffURL,title,tags,price\nhttps://a.example/1.jpg,"One, two",red; round ;,3\nu2,,,\n'
    assert entries(text, "csv") == [
        Entry("https://a.example/1.jpg", "One, two", None, ["red", "round"]),
        Entry("u2", None, None, []),
    ]
    assert entries("url\ttitle\nu1\tOne\n", "tsv") == [Entry("u1", "One")]


def test_json_lines_are_urls_or_objects() -> None:
    text = '"u1"\n{"url": "u2", "title": "Two", "description": "D", "tags": ["a", "b"]}\n\n'
    assert entries(text, "jsonl") == [Entry("u1"), Entry("u2", "Two", "D", ["a", "b"])]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("url,title\n,x\n", "csv", "(line 2 has no url)"),
        ('"u"\nnonsense\n', "jsonl", "(line 2 is not JSON)"),
        ("[1]\n", "jsonl", "(line 1 has no url)"),
        ('{"title": "x"}\n', "jsonl", "(line 1 has no url)"),
    ],
)
def test_a_line_that_says_nothing_is_named(text: str, kind: ListKind, said: str) -> None:
    assert entries(text, kind)[-1].url == said


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("link,title\nx,y\n", "csv", "column `url`; it has link, title"),
        ("", "csv", "column `url`"),
        ("url\n" + "x" * 200_000, "csv", "field larger"),
        ("<urlset><url>", "sitemap", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "sitemap", "not XML"),
    ],
)
def test_a_list_that_cannot_be_read_says_why(text: str, kind: ListKind, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        entries(text, kind)


def test_what_postgres_cannot_hold_is_left_out() -> None:
    assert entries('{"url": "u\\u0000", "title": "\\ud800"}\n', "jsonl") == [Entry("u", "?")]


def test_a_list_is_read_as_a_stream() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
            line = b"https://example.com/1.jpg\n"
            buffer[: len(line)] = line
            return len(line)

    lines: Iterator[Entry] = read_list(io.BufferedReader(Endless()), "text")
    assert next(lines) == next(lines) == Entry("https://example.com/1.jpg")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("urls.txt", "text"),
        ("a/b.CSV", "csv"),
        ("https://example.com/sitemap.xml?page=1", "sitemap"),
        ("s3://bucket/urls.jsonl.gz", "jsonl"),
        ("photo.jpg", None),
        ("folder", None),
    ],
)
def test_the_ending_tells_a_list(name: str, kind: ListKind | None) -> None:
    assert list_kind(name) == kind


def test_a_sitemap_is_followed_to_its_images() -> None:
    web = {
        "https://example.com/index.xml": INDEX.format("https://example.com/s.xml.gz").encode(),
        "https://example.com/s.xml.gz": gzip.compress(SITEMAP.encode()),
    }
    assert named("https://example.com/index.xml", web) == [
        NewItem("web", Entry("https://example.com/a.jpg")),
        NewItem("web", Entry("https://example.com/b.jpg", "B")),
    ]


def test_sitemaps_that_go_round_in_circles_end() -> None:
    web = {"https://example.com/i.xml": INDEX.format("https://example.com/i.xml").encode()}
    with pytest.raises(InvalidRequest, match="sitemap of a sitemap"):
        named("https://example.com/i.xml", web)


def test_a_list_of_files_is_relative_to_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,title\nsub/a.jpg,A\nhttps://example.com/b.jpg,\n")
    assert named(str(tmp_path / "list.csv")) == [
        NewItem("file", Entry((tmp_path / "sub" / "a.jpg").as_uri(), "A")),
        NewItem("web", Entry("https://example.com/b.jpg")),
    ]


def test_a_list_from_the_web_cannot_name_files() -> None:
    web = {"https://example.com/l.txt": b"file:///etc/passwd\n/etc/passwd\n"}
    assert {item.source for item in named("https://example.com/l.txt", web)} == {"web"}


def test_folders_are_read_wherever_fsspec_reads(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.PNG", "notes.md", "b/.hidden.jpg", ".git/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = [item.entry.url for item in named(str(tmp_path))]
    assert found == [(tmp_path / "a.jpg").as_uri(), (tmp_path / "b" / "c.PNG").as_uri()]
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/x/1.jpg": b"x", "/bucket/x/y/2.png": b"x", "/bucket/x/3.txt": b"x"})
    found = [item.entry.url for item in named("memory://bucket/x")]
    assert found == ["memory:///bucket/x/1.jpg", "memory:///bucket/x/y/2.png"]


def test_what_does_not_exist_is_said(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.csv"):
        with pytest.raises(NotFound):
            named(str(tmp_path / name))


def test_lists_bring_metadata_of_ones_own() -> None:
    table = "url,metadata.sku,Metadata.price\nhttps://a.com/a.jpg,A1,3\nhttps://a.com/b.jpg,,\n"
    first, second = entries(table, "csv")
    assert (first.metadata, second.metadata) == ({"sku": "A1", "price": "3"}, None)
    line = {"url": "https://a.com/a.jpg", "metadata": {"n": 3, "on": True, "x": None, "y": [1]}}
    [entry] = entries(json.dumps(line), "jsonl")
    assert entry.metadata == {"n": 3, "on": True, "y": "[1]"}


def test_metadata_goes_with_a_job_into_the_index(server: Server, host: ImageHost) -> None:
    job = server.start([{"url": host.url("seed/1.png"), "metadata": {"sku": "A1", "price": 3}}])
    assert server.done(job["id"])["indexed"] == 1
    [image] = server.client.get("/api/images").json()["images"]
    assert image["metadata"] == {"sku": "A1", "price": 3}
    # What is not said again stays; what is said is replaced.
    server.upsert([host.url("seed/1.png")])
    server.upsert([{"url": host.url("seed/1.png"), "title": "Now with a title"}])
    [image] = server.client.get("/api/images").json()["images"]
    assert (image["metadata"], image["title"]) == ({"sku": "A1", "price": 3}, "Now with a title")
    server.upsert([{"url": host.url("seed/1.png"), "metadata": {}}])
    [image] = server.client.get("/api/images").json()["images"]
    assert image["metadata"] == {}
