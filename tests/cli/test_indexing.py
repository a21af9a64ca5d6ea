"""`lookalike index` with what strangers and old folders hold, as a subprocess."""

import json
import os
from pathlib import Path

import pytest

from app.indexing.files import local_path
from tests.image_host import ImageHost
from tests.process import lookalike
from tests.samples import png


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(tmp_path / "data"),
        "ENCODER": "builtin",
        "FETCH_ALLOW": "127.0.0.1",
        # However slow the machine, what a test holds back does not time out.
        "FETCH_TIMEOUT_S": "300",
    }


def test_lists_from_the_web_lead_to_the_web_only(
    environment: dict[str, str], host: ImageHost, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(7))
    (tmp_path / "secret.xml").write_text(
        f"<urlset><image><loc>{secret.as_uri()}</loc></image></urlset>"
    )
    locked = host.add("a.png", png(1)).replace("pictures", "locked")
    named = [
        secret.as_uri(),
        str(secret),
        f"simplecache::{host.url('seed/3.png')}",
        "memory://x/y.png",
        host.url("seed/2.png"),
        locked.replace("//", "//me:hunter2@"),
    ]
    images = "".join(f"<image><loc>{url}</loc></image>" for url in named)
    child = host.add_list("child", f"<urlset>{images}</urlset>".encode())
    children = [
        child,
        host.url("lists/gone"),
        str(tmp_path / "secret.xml"),
        (tmp_path / "secret.xml").as_uri(),
        f"simplecache::{child}",
    ]
    index = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in children)
    source = host.add_list("index.xml", f"<sitemapindex>{index}</sitemapindex>".encode())
    dead = host.url("lists/dead.csv")

    done = lookalike("index", source, dead, "--json", **environment)
    assert done.returncode == 3, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = {line["url"]: line["reason"] or line["status"] for line in lines}
    only_web = "A list from the web may name only http and https URLs."
    unread = "cannot be read: The URL's server answers 404."
    assert outcomes == {
        **dict.fromkeys([*named[:4], *children[2:]], only_web),
        named[4]: "indexed",
        locked: "indexed",
        children[1]: f"The sitemap {unread}",
        dead: f"The list {unread}",
    }
    # Each was fetched once, though it is read twice.
    assert (host.asked["index.xml"], host.asked["child"]) == (1, 1)
    assert "hunter2" not in done.stdout + done.stderr


def test_a_folder_with_anything_in_it(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [b"a::b.png", b"caf\xe9 #1?.png", b"100%.png"]
    for seed, name in enumerate(names):
        (folder / os.fsdecode(name)).write_bytes(png(seed))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    for name in ("b.CR2", "c.nef", "d.nef", "e.mp4"):
        (folder / name).write_bytes(b"x")
    passed_over = (
        "6 files were passed over: 3 RAW (.cr2, .nef), 1 video (.mp4), "
        "2 pipe, device or dead link (pipe.jpg, zero.jpg)."
    )
    done = lookalike("index", str(folder), "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [passed_over]
    urls = [json.loads(line)["url"] for line in done.stdout.splitlines()]
    assert sorted(os.fsencode(Path(local_path(url)).name) for url in urls) == sorted(names)
    # Named by itself, it fails; what is gone is missed under its odd name.
    (folder / os.fsdecode(names[1])).unlink()
    done = lookalike("index", str(folder), str(folder / "pipe.jpg"), **environment)
    assert done.stdout == "0 indexed, 0 updated, 2 unchanged, 1 failed\n"
    assert "not a regular file" in done.stderr
    assert "gone: file://" in done.stderr
    assert "caf%E9%20%231%3F.png" in done.stderr
