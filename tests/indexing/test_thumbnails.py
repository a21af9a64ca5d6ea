"""Thumbnails in files of MEDIA_URL: written before their rows, read everywhere, gone with them."""

import asyncio
from collections.abc import Generator
from contextlib import aclosing, suppress
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.indexing import thumbnail_files, thumbnail_keeper, thumbnail_mover
from app.indexing.archive import Archive
from app.indexing.thumbnail_mover import Moving, ThumbnailMover
from app.lookalike import Lookalike
from app.pictures.decoding import Crop
from app.problems import StorageUnavailable, WrongSetting
from app.search.query import Query, Term
from app.settings import Settings
from app.store.images import Entry, ImageRow
from app.store.loose_thumbnails import Place
from app.store.misplaced_thumbnails import MisplacedThumbnails
from app.web.server import create_app
from tests.buckets import Bucket
from tests.conftest import Server, client_of, opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, png

_numbers = count()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket of this test's own."""
    monkeypatch.setattr(thumbnail_files, "AWAY_S", 0)
    return f"bucket-{next(_numbers)}"


def in_bucket(settings: Settings, bucket: str, thumbnails: str = "auto") -> Settings:
    changed = {"media_url": f"bucket://{bucket}", "thumbnails": thumbnails}
    return settings.model_copy(update=changed)


@pytest.fixture
def server(settings: Settings, bucket: str, loop: Loop, encoder: Encoder) -> Generator[Server]:
    """A server of a new index whose MEDIA_URL is a bucket."""
    with (
        opened(in_bucket(settings, bucket), loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


@pytest.fixture
def lookalike(server: Server) -> Lookalike:
    return server.lookalike


@pytest.fixture
def urls(lookalike: Lookalike, loop: Loop, host: ImageHost) -> list[str]:
    urls = [host.add(f"{number}.png", png(number)) for number in range(3)]
    index(lookalike, loop, urls)
    return urls


def index(lookalike: Lookalike, loop: Loop, urls: list[str]) -> None:
    outcomes = loop.run(lookalike.indexer.upsert_urls([Entry(url) for url in urls]))
    assert not [outcome.problem for outcome in outcomes if outcome.problem]


def ids_of(urls: list[str]) -> list[UUID]:
    return [Entry(url).id for url in urls]


async def rows(lookalike: Lookalike, table: str = "images") -> dict[UUID, tuple[bool, str | None]]:
    """Whether the row of each image has its thumbnail, and the key of the file that does."""
    query = {
        "images": "SELECT id, thumbnail IS NOT NULL, thumbnail_key FROM images",
        "trash": "SELECT image_id, thumbnail IS NOT NULL, image->>'thumbnail_key' FROM trash",
    }[table]
    async with lookalike.database.begin() as connection:
        return {row[0]: (row[1], row[2]) for row in await connection.execute(text(query))}


def keys(lookalike: Lookalike, loop: Loop) -> list[str]:
    found = {**loop.run(rows(lookalike)), **loop.run(rows(lookalike, "trash"))}
    return sorted(key for _, key in found.values() if key)


async def execute(lookalike: Lookalike, statement: str) -> None:
    async with lookalike.database.begin() as connection:
        await connection.execute(text(statement))


def images(lookalike: Lookalike, loop: Loop, urls: list[str]) -> list[ImageRow]:
    return list(loop.run(lookalike.catalog.find_all(ids_of(urls))).values())


def make_keypoints(lookalike: Lookalike, loop: Loop) -> None:
    while loop.run(lookalike.keypoint_maker.make_some()):
        pass


def move(lookalike: Lookalike, loop: Loop, to: Place) -> Moving:
    return loop.run(moved(lookalike, to))


async def moved(lookalike: Lookalike, to: Place) -> Moving:
    mover = ThumbnailMover(lookalike.database, lookalike.thumbnails, to)
    return ([Moving(0, 0)] + [moving async for moving in mover.run()])[-1]


def test_a_new_index_with_a_bucket_stores_them_there_and_goes_on_so(
    settings: Settings, bucket: str, loop: Loop, encoder: Encoder, host: ImageHost
) -> None:
    new = in_bucket(settings, bucket)
    for number in range(2):
        with opened(new, loop, encoder) as lookalike:
            assert lookalike.thumbnails.place == "media"
            index(lookalike, loop, [host.add(f"{number}.png", png(number))])
            assert not any(in_row for in_row, _ in loop.run(rows(lookalike)).values())
    assert len(Bucket.keys(bucket)) == 2


def test_an_index_that_has_images_keeps_them_in_the_database(
    settings: Settings, bucket: str, loop: Loop, encoder: Encoder, host: ImageHost
) -> None:
    with opened(settings.model_copy(update={"thumbnails": "auto"}), loop, encoder) as lookalike:
        assert lookalike.thumbnails.place == "database"
        index(lookalike, loop, [host.add("0.png", png(0))])
    with opened(in_bucket(settings, bucket), loop, encoder) as lookalike:
        assert lookalike.thumbnails.place == "database"
    with opened(in_bucket(settings, bucket, "media"), loop, encoder) as lookalike:
        assert lookalike.thumbnails.place == "media"


def test_a_page_loads_them_from_the_bucket_once(server: Server, urls: list[str]) -> None:
    path = f"/images/{ids_of(urls)[0]}/thumbnail"
    answer = server.client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content.startswith(b"\xff\xd8\xff")
    with Bucket.away():
        same = server.client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert same.status_code == 304


def test_everything_that_reads_thumbnails_reads_files(
    server: Server, loop: Loop, urls: list[str], bucket: str, tmp_path: Path
) -> None:
    lookalike, [first, other, _] = server.lookalike, ids_of(urls)
    make_keypoints(lookalike, loop)
    made = loop.run(lookalike.index.keypoints.made())
    assert (made.made, made.of) == (3, 3)
    # Verification.
    assert server.search(altered(png(1)))[0]["match"] == "copy"
    # A part of an indexed image, and an image compared with another.
    crop = Query([Term(image=first, crop=Crop(0, 0, 0.5, 0.5))])
    assert loop.run(lookalike.searcher.search(crop)).hits
    compared = server.client.post("/api/compare", data={"a": str(first), "b": str(other)})
    assert compared.json()["match"] == "similar", compared.text
    # What is made of them later.
    loop.run(execute(lookalike, "UPDATE images SET phash = NULL, phash_keys = NULL"))
    assert loop.run(lookalike.keypoint_maker.make_hashes()) == 3
    loop.run(execute(lookalike, f"DELETE FROM {lookalike.vectors.table.name}"))

    async def reindexed() -> int:
        async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
            pass
        return await lookalike.vectors.count()

    assert loop.run(reindexed()) == 3
    # The trash.
    loop.run(lookalike.trash.put([first]))
    shown = server.client.get(f"/api/trash/{first}/thumbnail")
    assert shown.content.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("to", ["media", "database"])
def test_an_export_holds_them_and_an_import_stores_them_where_new_ones_go(
    server: Server,
    loop: Loop,
    urls: list[str],
    bucket: str,
    tmp_path: Path,
    settings: Settings,
    encoder: Encoder,
    new_database: object,
    to: str,
) -> None:
    file = tmp_path / "index.parquet"

    async def write(lookalike: Lookalike) -> None:
        archive = Archive(lookalike.database, lookalike.catalog, lookalike.index.spaces)
        async for _ in archive.write(file):
            pass

    async def read(lookalike: Lookalike) -> None:
        archive = Archive(
            lookalike.database,
            lookalike.catalog,
            lookalike.index.spaces,
            thumbnails=lookalike.thumbnails,
        )
        async for _ in archive.read(file):
            pass

    loop.run(write(server.lookalike))
    assert callable(new_database)
    url = SecretStr(new_database())
    second = in_bucket(settings, f"{bucket}-{to}", to).model_copy(update={"database_url": url})
    with opened(second, loop, encoder) as lookalike:
        loop.run(read(lookalike))
        assert len(Bucket.keys(f"{bucket}-{to}")) == (3 if to == "media" else 0)
        assert keys(lookalike, loop) == Bucket.keys(f"{bucket}-{to}")
        for image_id in ids_of(urls):
            before = loop.run(server.lookalike.catalog.thumbnail(image_id))
            assert loop.run(lookalike.catalog.thumbnail(image_id)) == before


def test_files_end_with_their_images_whatever_deletes_them(
    lookalike: Lookalike, loop: Loop, urls: list[str], bucket: str, host: ImageHost
) -> None:
    assert Bucket.keys(bucket) == keys(lookalike, loop)
    loop.run(lookalike.indexer.delete(images(lookalike, loop, urls[:1])))
    assert Bucket.keys(bucket) == keys(lookalike, loop)
    assert len(Bucket.keys(bucket)) == 2
    # Replaced pixels.
    before = loop.run(lookalike.catalog.thumbnail(ids_of(urls)[1]))
    host.add("1.png", png(11))
    index(lookalike, loop, [urls[1]])
    assert loop.run(lookalike.catalog.thumbnail(ids_of(urls)[1])) != before
    assert len(Bucket.keys(bucket)) == 3
    loop.run(lookalike.jobs.keep_up())
    assert Bucket.keys(bucket) == keys(lookalike, loop)
    # A statement that knows nothing of files.
    loop.run(execute(lookalike, "DELETE FROM images"))
    loop.run(lookalike.jobs.keep_up())
    assert Bucket.keys(bucket) == []


@pytest.mark.parametrize("at_once", [1, 2, 200])
def test_a_file_that_cannot_be_removed_does_not_keep_the_others(
    at_once: int,
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media = lookalike.thumbnails.files._media
    stuck, delete = keys(lookalike, loop)[0], media.delete_thumbnail

    def refused(key: str) -> None:
        if key == stuck:
            raise StorageUnavailable
        delete(key)

    monkeypatch.setattr(media, "delete_thumbnail", refused)
    loop.run(execute(lookalike, "DELETE FROM images"))
    # However few are removed at once.
    monkeypatch.setattr(thumbnail_keeper, "SWEPT_AT_ONCE", at_once)
    for _ in range(3):
        with suppress(StorageUnavailable):
            loop.run(lookalike.thumbnails.sweep())
    assert Bucket.keys(bucket) == [stuck]
    # It is tried again later.
    monkeypatch.setattr(media, "delete_thumbnail", delete)
    loop.run(execute(lookalike, "UPDATE loose_thumbnails SET due_at = due_at - interval '1 hour'"))
    assert loop.run(lookalike.thumbnails.sweep()) == 1
    assert Bucket.keys(bucket) == []


def test_the_trash_keeps_files_until_it_is_emptied(
    lookalike: Lookalike, loop: Loop, urls: list[str], bucket: str
) -> None:
    there = Bucket.keys(bucket)
    for _ in range(2):
        loop.run(lookalike.trash.put(ids_of(urls)))
        loop.run(lookalike.thumbnails.sweep())
        assert Bucket.keys(bucket) == there
        loop.run(lookalike.trash.restore(None))
        loop.run(lookalike.thumbnails.sweep())
        assert Bucket.keys(bucket) == there == keys(lookalike, loop)
    assert loop.run(lookalike.catalog.thumbnail(ids_of(urls)[0]))
    loop.run(lookalike.trash.put(ids_of(urls)))
    loop.run(lookalike.trash.empty(ids_of(urls)[:1]))
    assert Bucket.keys(bucket) == keys(lookalike, loop)
    assert len(Bucket.keys(bucket)) == 2


def test_a_bucket_that_is_away_fails_what_needs_it_and_no_more(
    server: Server, loop: Loop, urls: list[str], bucket: str, host: ImageHost
) -> None:
    lookalike = server.lookalike
    make_keypoints(lookalike, loop)
    lookalike.thumbnails.files._cached.clear()
    new = host.add("new.png", png(7))
    with Bucket.away():
        refused = server.client.post("/api/upsert", json={"images": [{"url": new}]})
        assert refused.status_code == 503
        assert refused.json()["type"] == "/docs#storage-unavailable"
        assert len(loop.run(rows(lookalike))) == 3
        shown = server.client.get(f"/images/{ids_of(urls)[0]}/thumbnail")
        assert (shown.status_code, "retry-after" in shown.headers) == (503, True)
        # A search goes on, although it cannot verify what it finds.
        found = server.search(altered(png(1)), min_similarity=0.5)
        assert found[0]["url"] == urls[1]
        both = {"a": str(ids_of(urls)[0]), "b": str(ids_of(urls)[1])}
        assert server.client.post("/api/compare", data=both).status_code == 503
        assert server.client.get("/readyz").status_code == 503
        # What is deleted is gone at once, its file later.
        gone = server.client.delete(f"/api/images/{ids_of(urls)[2]}")
        assert gone.status_code == 204
        assert len(Bucket.keys(bucket)) == 3
    assert server.upsert([{"url": new}])[0]["status"] == "indexed"
    assert server.search(altered(png(1)))[0]["match"] == "copy"
    loop.run(lookalike.jobs.keep_up())
    assert Bucket.keys(bucket) == keys(lookalike, loop)


def test_an_item_waits_for_a_bucket_that_is_away(
    server: Server, bucket: str, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([True, True])
    put = Bucket.pipe_file

    def sometimes(self: Bucket, path: str, value: bytes, **options: object) -> None:
        if "/thumbnails/" in path and next(failures, False):
            raise ConnectionError("away")
        put(self, path, value, **options)

    monkeypatch.setattr(Bucket, "pipe_file", sometimes)
    job = server.start([{"url": host.add("0.png", png(0))}])
    assert server.done(job["id"])["indexed"] == 1
    assert len(Bucket.keys(bucket)) == 1


def test_a_slow_bucket_keeps_no_search_waiting(
    server: Server, loop: Loop, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    make_keypoints(server.lookalike, loop)
    server.lookalike.thumbnails.files._cached.clear()
    monkeypatch.setattr(thumbnail_files, "MOMENT_S", 0.01)
    opened_again = threading.Event()
    cat = Bucket.cat_file

    def slow(self: Bucket, path: str, *args: object, **options: object) -> bytes:
        assert opened_again.wait(60)
        return cat(self, path, *args, **options)

    monkeypatch.setattr(Bucket, "cat_file", slow)
    try:
        assert server.search(altered(png(1)), min_similarity=0.5)[0]["url"] == urls[1]
    finally:
        opened_again.set()


def test_a_file_without_a_row_goes_a_day_later(
    lookalike: Lookalike, loop: Loop, urls: list[str], bucket: str
) -> None:
    """A crash between the file and the commit."""
    loop.run(lookalike.thumbnails.put(ids_of(urls)[0], b"\xff\xd8\xff of no row"))
    loop.run(lookalike.jobs.keep_up())
    assert len(Bucket.keys(bucket)) == 4
    loop.run(execute(lookalike, "UPDATE loose_thumbnails SET due_at = due_at - interval '25 h'"))
    loop.run(lookalike.jobs.keep_up())
    assert Bucket.keys(bucket) == keys(lookalike, loop)


def test_a_lost_or_damaged_file_ends_nothing_else(
    server: Server,
    loop: Loop,
    urls: list[str],
    bucket: str,
    tmp_path: Path,
) -> None:
    lookalike, lost = server.lookalike, ids_of(urls)[1]
    key = loop.run(rows(lookalike))[lost][1]
    assert key is not None
    lookalike.thumbnails.files._cached.clear()
    del Bucket.store[f"/{bucket}/thumbnails/{key[:2]}/{key}.jpg"]
    assert server.client.get(f"/images/{lost}/thumbnail").status_code == 404
    make_keypoints(lookalike, loop)
    made = loop.run(lookalike.index.keypoints.made())
    assert (made.made, made.of) == (3, 3)
    assert server.search(altered(png(2)))[0]["match"] == "copy"
    archive = Archive(lookalike.database, lookalike.catalog, lookalike.index.spaces)

    async def exported() -> int:
        return [written async for written in archive.write(tmp_path / "index.parquet")][-1]

    assert loop.run(exported()) == 2
    assert move(lookalike, loop, "database") == Moving(2, 1)


def test_they_move_both_ways_and_what_is_made_of_them_stays(
    lookalike: Lookalike, loop: Loop, urls: list[str], bucket: str
) -> None:
    make_keypoints(lookalike, loop)
    loop.run(lookalike.trash.put(ids_of(urls)[2:]))
    before = {i: loop.run(lookalike.catalog.thumbnail(i)) for i in ids_of(urls)[:2]}
    trashed = loop.run(lookalike.index.trash.thumbnail(ids_of(urls)[2]))
    for place, files in (("database", 0), ("media", 3), ("database", 0), ("media", 3)):
        assert move(lookalike, loop, place) == Moving(3, 0)  # type: ignore[arg-type]
        assert move(lookalike, loop, place) == Moving(0, 0)  # type: ignore[arg-type]
        assert len(Bucket.keys(bucket)) == files
        assert Bucket.keys(bucket) == keys(lookalike, loop)
        assert {i: loop.run(lookalike.catalog.thumbnail(i)) for i in before} == before
        assert loop.run(lookalike.index.trash.thumbnail(ids_of(urls)[2])) == trashed
        made = loop.run(lookalike.index.keypoints.made())
        assert (made.made, made.of) == (2, 2)
    loop.run(lookalike.trash.restore(None))
    assert loop.run(lookalike.catalog.thumbnail(ids_of(urls)[2]))


def test_a_move_that_is_interrupted_goes_on(
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thumbnail_mover, "AT_ONCE", 1)
    mover = ThumbnailMover(lookalike.database, lookalike.thumbnails, "database")

    async def begun() -> None:
        async with aclosing(mover.run()) as moving:
            async for _ in moving:
                break

    loop.run(begun())
    assert loop.run(mover.count()) == 2
    assert all(loop.run(lookalike.catalog.thumbnail(i)) for i in ids_of(urls))
    with Bucket.away(), pytest.raises(StorageUnavailable):
        move(lookalike, loop, "database")
    assert move(lookalike, loop, "database") == Moving(2, 0)
    assert Bucket.keys(bucket) == []


def test_nothing_leaves_the_database_before_it_is_read_again(
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move(lookalike, loop, "database")
    monkeypatch.setattr(Bucket, "damages", True)
    with pytest.raises(StorageUnavailable):
        move(lookalike, loop, "media")
    assert all(in_row for in_row, _ in loop.run(rows(lookalike)).values())
    monkeypatch.setattr(Bucket, "damages", False)
    assert move(lookalike, loop, "media") == Moving(3, 0)


@pytest.mark.parametrize("to", ["media", "database"])
def test_an_image_that_changes_or_goes_while_it_is_moved_is_left_alone(
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    bucket: str,
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
    to: Place,
) -> None:
    if to == "media":
        move(lookalike, loop, "database")
    mover = ThumbnailMover(lookalike.database, lookalike.thumbnails, to)
    put, [changed, gone, _] = mover._rows.put, ids_of(urls)

    async def later(*args: object) -> list[bool]:
        host.add("0.png", png(12))
        await lookalike.indexer.upsert("web", Entry(urls[0]))
        await lookalike.trash.put([gone])
        return await put(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(mover._rows, "put", later)

    async def run() -> None:
        async for _ in mover.run():
            monkeypatch.setattr(mover._rows, "put", put)

    loop.run(run())
    kept = loop.run(lookalike.catalog.thumbnail(changed))
    assert kept is not None
    assert kept[0] == images(lookalike, loop, urls[:1])[0].sha256
    assert loop.run(lookalike.index.trash.thumbnail(gone))
    loop.run(execute(lookalike, "UPDATE loose_thumbnails SET due_at = now()"))
    loop.run(lookalike.thumbnails.sweep())
    assert Bucket.keys(bucket) == keys(lookalike, loop)
    assert loop.run(lookalike.catalog.thumbnail(changed)) == kept


@pytest.mark.parametrize("places", [["database"], ["database", "media"]])
def test_who_has_read_a_row_finds_its_thumbnail_after_a_move(
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    places: list[Place],
) -> None:
    """Else an export would leave images out, and keypoints would be made of nothing."""
    ids, index, files = ids_of(urls), lookalike.index, lookalike.thumbnails.files
    before = dict(loop.run(shown(lookalike)))

    def moves_before(name: str) -> None:
        """Move them between the reading of rows and that of their files."""
        load = getattr(files, name)

        async def later(keys: list[str]) -> object:
            monkeypatch.setattr(files, name, load)
            for place in places:
                await moved(lookalike, place)
            files._cached.clear()
            return await load(keys)

        loop.run(moved(lookalike, "media"))
        monkeypatch.setattr(files, name, later)

    moves_before("load")
    assert dict(loop.run(shown(lookalike))) == before
    moves_before("load")
    assert loop.run(lookalike.catalog.thumbnail(ids[0])) is not None
    moves_before("load_soon")
    stored = loop.run(index.keypoints.find(ids))
    assert {image_id: row.thumbnail for image_id, row in stored.items()} == before
    loop.run(lookalike.trash.put(ids))
    moves_before("load")
    assert loop.run(index.trash.thumbnail(ids[1])) == before[ids[1]]


def test_images_that_are_indexed_again_meanwhile_are_in_an_export(
    lookalike: Lookalike,
    loop: Loop,
    urls: list[str],
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, load = lookalike.thumbnails.files, lookalike.thumbnails.files.load
    before, going = dict(loop.run(shown(lookalike))), images(lookalike, loop, urls[:1])

    async def later(keys: list[str]) -> object:
        monkeypatch.setattr(files, "load", load)
        host.add("1.png", png(11))
        await lookalike.indexer.upsert("web", Entry(urls[1]))
        await lookalike.indexer.delete(going)
        await lookalike.thumbnails.sweep()
        return await load(keys)

    monkeypatch.setattr(files, "load", later)
    gone = ids_of(urls)[0]
    during = dict(loop.run(shown(lookalike)))
    after = dict(loop.run(shown(lookalike)))
    assert after.keys() == before.keys() - {gone}
    assert {image_id: data for image_id, data in during.items() if image_id != gone} == after


async def shown(lookalike: Lookalike) -> list[tuple[UUID, bytes]]:
    found = await lookalike.catalog.thumbnails(limit=10)
    return [(image.id, data) for image, data in found]


def test_two_moves_at_once_end_well(
    lookalike: Lookalike, loop: Loop, urls: list[str], bucket: str
) -> None:
    """Each finishes while the other does; what was recorded last is the one place."""
    places: list[Place] = ["media", "database", "media", "database"]

    async def finish(place: Place) -> None:
        await MisplacedThumbnails(lookalike.database, place).finish()

    async def together() -> int:
        async with lookalike.database.begin() as connection:
            # All have begun before any of them can write.
            await connection.execute(text("LOCK thumbnail_place IN ACCESS EXCLUSIVE MODE"))
            finishing = [asyncio.create_task(finish(place)) for place in places]
            waiting = text(
                "SELECT count(*) FROM pg_locks "
                "WHERE NOT granted AND relation = 'thumbnail_place'::regclass"
            )
            async with asyncio.timeout(60):
                while (await connection.scalar(waiting) or 0) < len(places):
                    assert not any(task.done() for task in finishing)
                    await asyncio.sleep(0)
        await asyncio.gather(*finishing)
        async with lookalike.database.begin() as connection:
            return await connection.scalar(text("SELECT count(*) FROM thumbnail_place")) or 0

    assert loop.run(together()) == 1


def test_browsers_may_be_sent_to_the_bucket(
    settings: Settings, bucket: str, loop: Loop, encoder: Encoder, host: ImageHost
) -> None:
    changed = in_bucket(settings, bucket).model_copy(update={"thumbnail_redirects": True})
    with (
        opened(changed, loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        url = host.add("0.png", png(0))
        index(lookalike, loop, [url])
        answer = client.get(f"/images/{ids_of([url])[0]}/thumbnail")
        [key] = Bucket.keys(bucket)
        assert answer.status_code == 307
        expected = f"https://bucket.example/{bucket}/thumbnails/{key[:2]}/{key}.jpg?until=3600"
        assert answer.headers["location"] == expected
        policy = client.get("/").headers["content-security-policy"]
        assert "img-src 'self' https://bucket.example data:" in policy


def test_redirects_need_a_storage_that_signs(
    settings: Settings, loop: Loop, encoder: Encoder
) -> None:
    changed = settings.model_copy(update={"thumbnail_redirects": True})
    with pytest.raises(WrongSetting, match="THUMBNAIL_REDIRECTS"), opened(changed, loop, encoder):
        pass


def test_two_who_index_the_same_url_leave_one_file(
    lookalike: Lookalike, loop: Loop, host: ImageHost, bucket: str
) -> None:
    """Each has a file of its own, so that neither removes the other's."""
    url = host.add("0.png", png(0))

    async def both() -> None:
        one = lookalike.thumbnails.put(Entry(url).id, b"\xff\xd8\xff same")
        other = lookalike.thumbnails.put(Entry(url).id, b"\xff\xd8\xff same")
        first, second = await asyncio.gather(one, other)
        assert first != second

    loop.run(both())
    index(lookalike, loop, [url])
    assert len(Bucket.keys(bucket)) == 3
    loop.run(execute(lookalike, "UPDATE loose_thumbnails SET due_at = now()"))
    loop.run(lookalike.jobs.keep_up())
    assert Bucket.keys(bucket) == keys(lookalike, loop)
