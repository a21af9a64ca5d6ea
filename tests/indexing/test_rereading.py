"""Images that an older decoder read: counted, told, and read again by all that sees their bytes."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import SecretStr

from app.indexing.files import find_files
from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import DECODER
from app.settings import Settings
from app.store.images import Entry, ImageRow
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.indexing.test_archive import archive_of
from tests.live import Loop
from tests.pictures.files import SWAPPED, rgb_profile
from tests.samples import encode, photo, png

OLD = "UPDATE images SET decoder = 0, colours = '[]', format = 'OLD'"


def grow_old(lookalike: Lookalike, *statements: str) -> None:
    """Make every image one that an older version read, otherwise than today."""
    with psycopg.connect(lookalike.database.url, autocommit=True) as connection:
        for statement in (OLD, *statements):
            connection.execute(statement)  # pyright: ignore[reportArgumentType]


def outdated(server: Server) -> int:
    return server.client.get("/api/stats").json()["outdated"]


def image_of(lookalike: Lookalike, loop: Loop, entry: Entry) -> ImageRow:
    image = loop.run(lookalike.catalog.find(entry.id))
    assert image is not None
    return image


def test_each_image_tells_which_decoder_read_it(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)))
    loop.run(lookalike.indexer.upsert("web", entry))
    assert image_of(lookalike, loop, entry).decoder == DECODER > 0
    assert loop.run(lookalike.index.stats()).outdated == 0


def test_a_refresh_reads_old_images_again_and_then_asks_whether_they_changed(
    server: Server, host: ImageHost
) -> None:
    profile = rgb_profile(SWAPPED, 2.2)
    data = encode(photo(1), icc_profile=profile)
    urls = [f"{host.add(f'{name}.png', data)}?etag" for name in "ab"]
    server.upsert(urls)
    before = server.client.get("/api/images").json()["images"]
    grow_old(server.lookalike)
    assert outdated(server) == 2
    sent = host.sent["a.png"]
    job = server.done(server.client.post("/api/refresh").json()["id"])
    assert (job["updated"], job["unchanged"]) == (2, 0)
    assert outdated(server) == 0
    assert server.client.get("/api/images").json()["images"] == before
    # From now on a server that says "not modified" is believed again.
    job = server.done(server.client.post("/api/refresh").json()["id"])
    assert (job["updated"], job["unchanged"], host.sent["a.png"]) == (0, 2, sent + 1)


@pytest.mark.parametrize("source", ["web", "upload", "file"])
def test_the_same_bytes_are_read_again(
    lookalike: Lookalike, loop: Loop, host: ImageHost, source: str, tmp_path: Path
) -> None:
    async def index() -> tuple[str, Entry]:
        if source == "upload":
            outcome = await lookalike.indexer.upsert_upload(png(1), title="One")
            image = await lookalike.catalog.find(outcome.id) if outcome.id else None
            assert image is not None
            return outcome.status, Entry(image.url)
        if source == "file":
            (tmp_path / "a.png").write_bytes(png(1))
            [url] = find_files(str(tmp_path / "a.png"))
            outcome = await lookalike.indexer.upsert("file", entry := Entry(url))
            return outcome.status, entry
        outcome = await lookalike.indexer.upsert("web", entry := Entry(host.add("a.png", png(1))))
        return outcome.status, entry

    status, entry = loop.run(index())
    whole = image_of(lookalike, loop, entry)
    assert status == "indexed"
    grow_old(lookalike)
    assert loop.run(lookalike.index.stats()).outdated == 1
    assert loop.run(index())[0] == "updated"
    again = image_of(lookalike, loop, entry)
    assert (again.decoder, again.format, again.colours) == (DECODER, "PNG", whole.colours)
    assert (again.title, again.indexed_at) == (whole.title, whole.indexed_at)
    assert loop.run(lookalike.index.stats()).outdated == 0
    assert loop.run(index())[0] == "unchanged"


def test_vectors_of_old_images_are_made_again_and_shared_once_they_are(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entries = [Entry(host.add(f"{name}.png", png(1))) for name in "abc"]
    loop.run(lookalike.indexer.upsert_urls(entries[:2]))
    assert lookalike.encoder.images.items == 1
    grow_old(lookalike)
    # Not the old image's vector for the new one of the same bytes.
    loop.run(lookalike.indexer.upsert("web", entries[2]))
    assert lookalike.encoder.images.items == 2
    loop.run(lookalike.indexer.upsert_urls(entries))
    assert lookalike.encoder.images.items == 2
    assert loop.run(lookalike.index.stats()).outdated == 0


def test_what_is_said_of_an_old_image_makes_it_no_younger(server: Server, host: ImageHost) -> None:
    [outcome] = server.upsert([host.add("a.png", png(1))])
    grow_old(server.lookalike)
    answer = server.client.patch(f"/api/images/{outcome['id']}", json={"title": "A"})
    assert answer.status_code == 200
    assert outdated(server) == 1


def test_the_start_says_how_many_images_are_read_better_again(
    lookalike: Lookalike, loop: Loop, settings: Settings, host: ImageHost
) -> None:
    async def start() -> list[str]:
        told: list[str] = []
        async with open_lookalike(settings, announce=told.append):
            return [line for line in told if "older version" in line]

    loop.run(lookalike.indexer.upsert("web", Entry(host.add("a.png", png(1)))))
    assert loop.run(start()) == []
    grow_old(lookalike)
    [line] = loop.run(start())
    assert line.startswith("1 images were read by an older version")
    assert "lookalike refresh" in line


def test_an_export_has_what_decoding_said(
    server: Server, loop: Loop, settings: Settings, new_database: Callable[..., str], tmp_path: Path
) -> None:
    files = [
        ("file", ("plain.png", encode(Image.new("RGB", (64, 64), "teal")))),
        ("file", ("cut.jpg", encode(photo(1), "JPEG")[:-2])),
        ("file", ("old.png", png(2))),
    ]
    assert server.client.post("/api/images", files=files).status_code == 200
    grow_old(server.lookalike, f"UPDATE images SET decoder = {DECODER} WHERE title <> 'old.png'")
    path = tmp_path / "index.parquet"
    older = tmp_path / "older.parquet"

    async def write() -> None:
        async for _ in archive_of(server.lookalike).write(path):
            pass

    async def read(file: Path) -> dict[str, tuple[bool, bool, int]]:
        url = SecretStr(new_database())
        elsewhere = settings.model_copy(update={"database_url": url, "data_dir": tmp_path / "new"})
        async with open_lookalike(elsewhere, announce=lambda _: None) as lookalike:
            async for _ in archive_of(lookalike).read(file):
                pass
            images = await lookalike.catalog.newest(limit=10)
            return {i.title: (i.truncated, i.too_plain, i.decoder) for i in images}

    loop.run(write())
    assert loop.run(read(path)) == {
        "plain.png": (False, True, DECODER),
        "cut.jpg": (True, False, DECODER),
        "old.png": (False, False, 0),
    }
    pq.write_table(pq.read_table(path).drop(["truncated", "too_plain", "decoder"]), older)
    assert set(loop.run(read(older)).values()) == {(False, False, 0)}
