"""Whatever may lie in a folder: odd names, pipes and devices, RAW files and videos."""

import os
import socket
from pathlib import Path

import fsspec
import pytest

from app.indexing.files import exists, find_files, local_path, local_url, read_file
from app.indexing.passed_over import PassedOver
from app.lookalike import Lookalike
from app.problems import NotAPicture, NotFound, PictureTooLarge, WrongSetting
from app.store.images import Entry
from tests.conftest import Server
from tests.live import Loop
from tests.samples import png

NAMES = [
    b"a::b.jpg",
    b"simplecache::x.jpg",
    b"a#b.jpg",
    b"100%.jpg",
    b"%41.jpg",
    b"a?b=c.jpg",
    b"two\nlines.jpg",
    b"tab\t.jpg",
    b"[x].jpg",
    b"caf\xe9.jpg",
    b"\xff\xfe.jpg",
    "日本語.jpg".encode(),
    b"a:b@c.jpg",
    b" leading and trailing .jpg",
    b"back\\slash.jpg",
    b"http:x@y.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_have_any_bytes(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(b"image")
    [url] = find_files(str(tmp_path))
    assert url.startswith("file:///")
    assert url.isascii()
    assert os.fsencode(local_path(url)) == path
    assert read_file(url, max_bytes=100)[0] == b"image"
    assert exists(url)
    # The same file named by itself.
    assert list(find_files(os.fsdecode(path))) == [url]
    assert list(find_files(url)) == [url]


def test_such_files_are_indexed_and_served(server: Server, loop: Loop, tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        (tmp_path / os.fsdecode(name)).write_bytes(png(seed))
    urls = list(find_files(str(tmp_path)))
    assert len(urls) == len(NAMES)
    for url in urls:
        outcome = loop.run(server.lookalike.indexer.upsert("file", Entry(url)))
        assert outcome.status == "indexed", outcome
        served = server.client.get(f"/images/{outcome.id}/original")
        assert served.status_code == 200
        assert served.content == Path(local_path(url)).read_bytes()
        shown = server.client.get(f"/api/images/{outcome.id}").json()
        assert shown["title"]
        again = loop.run(server.lookalike.indexer.upsert("file", Entry(url)))
        assert (again.status, again.id) == ("unchanged", outcome.id)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(b"image")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "tty.jpg").symlink_to("/dev/tty")
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jpg").mkdir()
    os.chdir(tmp_path)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket.jpg")
    try:
        passed_over = PassedOver()
        found = [Path(local_path(url)).name for url in find_files(".", passed_over=passed_over)]
        assert found == ["good.jpg", "linked.jpg"]
        assert passed_over.sentence() == (
            "5 files were passed over: 5 pipe, device or dead link "
            "(dead.jpg, pipe.jpg, socket.jpg, tty.jpg, zero.jpg)"
        )
        # Named by themselves, or changed since they were found.
        for name in ("pipe.jpg", "zero.jpg", "folder.jpg", "socket.jpg"):
            with pytest.raises(NotAPicture, match="not a regular file"):
                read_file(local_url(str(tmp_path / name)), max_bytes=1000)
        with pytest.raises(NotFound):
            read_file(local_url(str(tmp_path / "dead.jpg")), max_bytes=1000)
    finally:
        listening.close()


def test_no_more_is_read_than_is_allowed_whatever_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    url = local_url(str(tmp_path / "a.jpg"))
    with pytest.raises(PictureTooLarge):
        read_file(url, max_bytes=100)
    assert read_file(url, max_bytes=101)[0] == bytes(101)
    # It says that it has no bytes, and has many.
    status = Path("/proc/self/smaps")
    assert status.stat().st_size == 0
    with pytest.raises(PictureTooLarge):
        read_file(status.as_uri(), max_bytes=100)


def test_bytes_in_other_storages_are_counted_as_well() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/many/a.jpg": bytes(101)})
    assert read_file("memory:///many/a.jpg", max_bytes=101)[0] == bytes(101)
    with pytest.raises(PictureTooLarge):
        read_file("memory:///many/a.jpg", max_bytes=100)
    for url in ("memory:///many/b.jpg", "memory:///many"):
        with pytest.raises((NotFound, NotAPicture)):
            read_file(url, max_bytes=100)
    with pytest.raises(WrongSetting):
        read_file("nosuch://x/y.jpg", max_bytes=100)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a%20b/c.jpg", "/a b/c.jpg"),
        ("file:///a b#c.jpg", "/a b#c.jpg"),
        ("FILE://localhost/a.jpg", "/a.jpg"),
        ("file:/a.jpg", "/a.jpg"),
        ("local:///a.jpg", "/a.jpg"),
        ("file:///caf%E9.jpg", "/caf\udce9.jpg"),
    ],
)
def test_file_urls_lead_to_paths(url: str, path: str) -> None:
    assert local_path(url) == path


@pytest.mark.parametrize("url", ["file://other.example/a.jpg", "file:///no/such%00file.jpg"])
def test_a_file_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises((NotFound, NotAPicture)):
        read_file(url, max_bytes=100)


def test_raw_files_and_videos_are_counted_and_named(tmp_path: Path) -> None:
    names = ["a.jpg", "b.CR2", "c.nef", "d/e.nef", "f.mp4", "g.txt", ".h.cr2", "i.MOV"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    passed_over = PassedOver()
    assert len(list(find_files(str(tmp_path), passed_over=passed_over))) == 1
    assert passed_over.sentence() == (
        "5 files were passed over: 3 RAW (.cr2, .nef), 2 video (.mov, .mp4)"
    )
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/raw/{name}": b"x" for name in names})
    passed_over = PassedOver()
    assert len(list(find_files("memory://raw", passed_over=passed_over))) == 1
    assert passed_over.sentence().startswith("5 files were passed over: 3 RAW")
    assert PassedOver().sentence() == ""


def test_a_pipe_fails_as_the_item_that_it_is(
    lookalike: Lookalike, loop: Loop, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    entry = Entry(local_url(str(tmp_path / "pipe.jpg")))
    outcome = loop.run(lookalike.indexer.upsert("file", entry))
    assert outcome.status == "failed"
    assert "not a regular file" in (outcome.reason or "")
