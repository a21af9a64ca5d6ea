import asyncio
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from app.indexing.list_fetcher import list_fetcher
from app.indexing.lists import Listed, Refused
from app.indexing.sources import (
    NO_CHAINS,
    ONLY_SAME,
    ONLY_WEB,
    ListKind,
    items_of,
    list_kind,
    posted_items,
    read_list,
)
from app.lookalike import Lookalike
from app.problems import FetchTimedOut, InvalidRequest, NotAPicture, NotFound, UrlNotFound
from app.store.images import Entry
from app.store.items import NewItem
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop

SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
        xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc>https://example.com/page</loc>
    <image:image><image:loc>https://example.com/a.jpg</image:loc></image:image>
    <image:image><image:loc> https://example.com/b.jpg </image:loc>
      <image:title>B</image:title></image:image>
  </url>
</urlset>"""
BOMB = """<!DOCTYPE urlset [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><urlset><image><loc>&c;</loc></image></urlset>"""
INDEX = """<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
  <sitemap><loc>{}</loc></sitemap></sitemapindex>"""


def entries(text: str, kind: ListKind) -> list[Listed]:
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
    ("text", "kind", "line", "said"),
    [
        ("url,title\n,x\n", "csv", 2, "has no URL"),
        ('"u"\nnonsense\n', "jsonl", 2, "is not JSON"),
        ("[1]\n", "jsonl", 1, "has no URL"),
        ('{"title": "x"}\n', "jsonl", 1, "has no URL"),
    ],
)
def test_a_line_that_says_nothing_is_named(text: str, kind: ListKind, line: int, said: str) -> None:
    assert entries(text, kind)[-1] == Refused(f"(line {line})", f"Line {line} {said}.")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("link,title\nx,y\n", "csv", "column `url`; it has link, title"),
        ("", "csv", "column `url`"),
        ("a," * 1000, "csv", "a, a, a.*…"),
        ("<urlset><url>", "sitemap", "not readable XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "sitemap", "not readable XML"),
        (
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><urlset>&a;</urlset>',
            "sitemap",
            "not readable XML",
        ),
        (BOMB, "sitemap", "not readable XML"),
        ("<urlset>" + "<a>" * 1_000_000, "sitemap", "more than 100 levels deep"),
        ("<html><body>Gone</body></html>", "sitemap", "begins with <html>"),
        ("", "sitemap", "not readable XML"),
        ("<urlset>" + f"<a>{'x' * 1000}</a>" * 110_000, "sitemap", "larger than 100 MB"),
        ('<?xml version="1.0" encoding="klingon"?><urlset/>', "sitemap", "not readable XML"),
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

    lines: Iterator[Listed] = read_list(io.BufferedReader(Endless()), "text")
    assert next(lines) == next(lines) == Entry("https://example.com/1.jpg")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("urls.txt", "text"),
        ("a/b.CSV", "csv"),
        ("https://example.com/sitemap.xml?page=1", "sitemap"),
        ("https://example.com/sitemap.XML.GZ?page=1#x", "sitemap"),
        ("a#b.csv", "csv"),
        ("a?b.txt", "text"),
        ("http://[::1", None),
        ("", None),
        (".gz", None),
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


def test_the_texts_of_a_sitemap_have_limits() -> None:
    text = f"<urlset><image><loc>{{}}</loc><title>{'x' * 1001}</title></image></urlset>"
    [refused] = entries(text.format("https://a.example/1.jpg"), "sitemap")
    assert refused == Refused(
        "https://a.example/1.jpg", "The title is longer than 1,000 characters."
    )
    [refused] = entries(text.format(f"https://a.example/{'x' * 8000}"), "sitemap")
    assert isinstance(refused, Refused)
    assert refused.reason == "The URL is longer than 8,000 characters."


def test_sitemaps_that_go_round_in_circles_end() -> None:
    web = {"https://example.com/i.xml": INDEX.format("https://example.com/i.xml").encode()}
    [item] = named("https://example.com/i.xml", web)
    assert "A sitemap index may not list another sitemap index." in (item.reason or "")


@pytest.mark.parametrize(
    "data",
    [
        SITEMAP.encode(),
        b"\n \r\n" + SITEMAP.encode(),
        b"\xef\xbb\xbf\n" + SITEMAP.encode(),
        SITEMAP.replace("UTF-8", "UTF-16").encode("utf-16"),
        ("\n" + SITEMAP.replace("UTF-8", "UTF-16")).encode("utf-16"),
        SITEMAP.replace("UTF-8", "ISO-8859-1").encode("latin-1"),
        gzip.compress(SITEMAP.encode()),
        SITEMAP.replace("image:", "i:").replace("xmlns:image", "xmlns:i").encode(),
        b"<!DOCTYPE urlset>" + SITEMAP.partition("?>")[2].encode(),
    ],
)
@pytest.mark.parametrize(
    "name", ["s.xml", "s.xml.gz", "s.XML.GZ", "s.xml.gz?v=1", "s.xml?a=b.gz#c"]
)
def test_a_sitemap_is_what_it_holds_and_not_what_it_is_called(data: bytes, name: str) -> None:
    url = f"https://example.com/{name}"
    assert named(url, {url: data}) == [
        NewItem("web", Entry("https://example.com/a.jpg")),
        NewItem("web", Entry("https://example.com/b.jpg", "B")),
    ]


def test_each_sitemap_of_an_index_counts_alone() -> None:
    children = {
        "https://example.com/map?id=1": SITEMAP.encode(),
        "https://example.com/broken": SITEMAP.encode()[:-100],
        "https://example.com/page": b"<html>Gone</html>",
        "https://example.com/photo.jpg": b"\xff\xd8\xff",
        "https://example.com/empty.xml": b"",
        "https://example.com/damaged.gz": gzip.compress(SITEMAP.encode())[:-30],
        "https://example.com/urls.txt": b"https://example.com/c.jpg\n/etc/passwd\n",
        "https://example.com/good": gzip.compress(SITEMAP.encode()),
    }
    names = [*children, "https://example.com/gone.xml", "file:///etc/passwd", "ftp://x/s.xml"]
    locations = "</loc></sitemap><sitemap><loc>".join(names)
    index = INDEX.format(locations).encode()

    def fetch(url: str) -> bytes:
        if url == "https://example.com/i.xml":
            return index
        if url not in children:
            raise UrlNotFound("The URL's server answers 404.")
        return children[url]

    items = list(items_of("https://example.com/i.xml", fetch=fetch))
    failed = {item.entry.url.rpartition("/")[2]: item.reason for item in items if item.reason}
    said = {name: (reason or "")[:80] for name, reason in failed.items()}
    cannot = "The sitemap cannot be read: "
    assert said == {
        "broken": said["broken"],
        "page": (cannot + "The sitemap is not readable XML: it begins with <html>")[:80],
        "photo.jpg": cannot + "It is neither XML nor a plain list of URLs.",
        "empty.xml": cannot + "It is neither XML nor a plain list of URLs.",
        "damaged.gz": cannot + "The list is gzip-compressed and damaged.",
        # Of the local file that a sitemap names, and of the one that the text does.
        "passwd": ONLY_WEB,
        "gone.xml": cannot + "The URL's server answers 404.",
        "s.xml": ONLY_WEB,
    }
    assert said["broken"].startswith(cannot + "The sitemap is not readable XML: ")
    good = [item.entry.url.rpartition("/")[2] for item in items if not item.reason]
    # Of the broken one, what stands before the fault.
    assert good == ["a.jpg", "b.jpg", "a.jpg", "c.jpg", "a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "../secret.png",
        "simplecache::http://127.0.0.1/x.png",
        "memory://x/y.png",
        "s3://bucket/x.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "HTTPX://example.com/x",
    ],
)
@pytest.mark.parametrize("kind", ["text", "csv", "jsonl", "sitemap"])
def test_a_list_from_the_web_may_name_only_the_web(url: str, kind: ListKind) -> None:
    lists = {
        "text": f"{url}\nhttps://a.example/b.jpg\n",
        "csv": f'url\n"{url}"\nhttps://a.example/b.jpg\n',
        "jsonl": f'"{url}"\n"https://a.example/b.jpg"\n',
        "sitemap": f"<urlset><image><loc>{url}</loc></image>"
        "<image><loc>https://a.example/b.jpg</loc></image></urlset>",
    }
    expected = [
        NewItem("web", Entry(url), ONLY_WEB),
        NewItem("web", Entry("https://a.example/b.jpg")),
    ]
    suffix = {"text": "txt", "sitemap": "xml"}.get(kind, kind)
    source = f"https://example.com/l.{suffix}"
    assert named(source, {source: lists[kind].encode()}) == expected
    posted = posted_items(io.BytesIO(lists[kind].encode()), kind, fetch=lambda _: b"")
    assert list(posted) == expected


def test_a_local_list_may_name_files_and_a_sitemap_its_neighbours(tmp_path: Path) -> None:
    odd = tmp_path / "a::b #1.jpg"
    (tmp_path / "l.txt").write_text(
        f"{odd.name}\n{odd.as_uri()}\nsimplecache::file:///etc/passwd\ns3://bucket/x.png\n"
        "https://a.example/b.jpg\n"
    )
    assert named(str(tmp_path / "l.txt")) == [
        NewItem("file", Entry(odd.as_uri())),
        NewItem("file", Entry(odd.as_uri())),
        NewItem("web", Entry("simplecache::file:///etc/passwd"), NO_CHAINS),
        NewItem("file", Entry("s3://bucket/x.png")),
        NewItem("web", Entry("https://a.example/b.jpg")),
    ]
    (tmp_path / "i.xml").write_text(INDEX.format("s.gz"))
    (tmp_path / "s.gz").write_bytes(gzip.compress(SITEMAP.encode()))
    for source in (str(tmp_path / "i.xml"), (tmp_path / "i.xml").as_uri()):
        assert [item.entry.title for item in named(source)] == [None, "B"]


def test_a_list_in_a_storage_may_name_what_is_beside_it() -> None:
    memory = fsspec.filesystem("memory")
    lines = ["a.jpg", "memory://lists/b.jpg", "file:///etc/passwd", "/etc/passwd", "s3://x/y.jpg"]
    memory.pipe({"/lists/l.txt": "\n".join(lines).encode()})
    items = named("memory://lists/l.txt")
    assert [item.entry.url for item in items if not item.reason] == [
        "memory://lists/a.jpg",
        "memory://lists/b.jpg",
    ]
    assert {item.reason for item in items if item.reason} == {ONLY_SAME}
    with pytest.raises(NotFound):
        named("memory://lists/nowhere.txt")


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "l.txt")
    with pytest.raises(NotAPicture, match="not a regular file"):
        named(str(tmp_path / "l.txt"))


def test_a_sitemap_index_may_be_posted(server: Server, host: ImageHost) -> None:
    sitemap = SITEMAP.replace("https://example.com/a.jpg", host.url("seed/1.png"))
    sitemap = sitemap.replace("https://example.com/b.jpg", host.url("seed/2.png"))
    child = host.add_list("map", gzip.compress(sitemap.encode()), "application/octet-stream")
    index = INDEX.format(f"{child}</loc></sitemap><sitemap><loc>{host.url('lists/gone')}")
    headers = {"content-type": "Application/XML; charset=utf-8"}
    job = server.client.post("/api/upsert", content=index, headers=headers).json()
    done = server.done(job["id"])
    assert (done["indexed"], done["failed"], done["total"]) == (2, 1, 3)
    [failed] = server.client.get(f"/api/jobs/{job['id']}/items?state=failed").json()["items"]
    assert failed["reason"] == "The sitemap cannot be read: The URL's server answers 404."
    # What could not be read at all is not tried as an image.
    assert server.client.post(f"/api/jobs/{job['id']}/retry").json()["failed"] == 1
    files = {"file": ("index.xml", index.encode())}
    assert server.client.post("/index", files=files).status_code == 303
    job = server.client.get("/api/jobs").json()["jobs"][0]
    assert server.done(job["id"])["unchanged"] == 2


def test_the_sitemaps_of_a_request_are_fetched_with_its_guards(
    server: Server, host: ImageHost
) -> None:
    index = INDEX.format(host.url("to?url=http://127.0.0.2/secret.xml"))
    headers = {"content-type": "text/xml"}
    job = server.client.post("/api/upsert", content=index, headers=headers).json()
    [item] = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    assert item["reason"] == (
        "The sitemap cannot be read: The URL's host does not exist, or is neither public nor in "
        "FETCH_ALLOW."
    )


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "UTF-16BE"])
def test_a_posted_list_is_read_by_its_charset(
    server: Server, host: ImageHost, charset: str
) -> None:
    text = f"url;title\r\n{host.url('seed/1.png')};Häuser\r\n"
    headers = {"content-type": f"Text/CSV; header=present; Charset={charset}"}
    job = server.client.post("/api/upsert", content=text.encode(charset), headers=headers).json()
    assert server.done(job["id"])["indexed"] == 1
    [image] = server.client.get("/api/images").json()["images"]
    assert image["title"] == "Häuser"


def test_lists_from_the_web_are_read_by_their_charset_and_kept(
    lookalike: Lookalike, loop: Loop, host: ImageHost, tmp_path: Path
) -> None:
    url = host.add_list("l.csv", b"url,title\nhttp://a.example/,\xe9\n", "text/csv; charset=latin1")

    async def read() -> bytes:
        fetch = list_fetcher(lookalike.fetcher, kept_in=tmp_path)
        await asyncio.to_thread(fetch, url)
        return await asyncio.to_thread(fetch, url)

    data = loop.run(read())
    assert host.asked["l.csv"] == 1
    assert list(read_list(io.BytesIO(data), "csv")) == [Entry("http://a.example/", "é")]


def test_sitemaps_have_their_time(lookalike: Lookalike, loop: Loop, host: ImageHost) -> None:
    async def read() -> None:
        fetch = list_fetcher(lookalike.fetcher, within_s=0)
        await asyncio.to_thread(fetch, host.add_list("l.csv", b"url\n"))

    with pytest.raises(FetchTimedOut, match="longer than 0 s"):
        loop.run(read())


def test_a_list_of_files_is_relative_to_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,title\nsub/a.jpg,A\nhttps://example.com/b.jpg,\n")
    assert named(str(tmp_path / "list.csv")) == [
        NewItem("file", Entry((tmp_path / "sub" / "a.jpg").as_uri(), "A")),
        NewItem("web", Entry("https://example.com/b.jpg")),
    ]


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
    assert (first.metadata, second.metadata) == ({"sku": "A1", "price": 3}, None)
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
