"""Keypoints: made once for each image, and never those of pixels that have changed."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from app.indexing.keypoint_maker import keypoints_of
from app.lookalike import Lookalike
from app.pictures.keypoints import VERSION, Keypoints
from app.store.images import Entry
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png


@pytest.fixture
def urls(lookalike: Lookalike, loop: Loop, host: ImageHost) -> list[str]:
    urls = [host.add(f"{number}.png", png(number)) for number in range(3)]
    loop.run(lookalike.indexer.upsert_urls([Entry(url) for url in urls]))
    return urls


def ids_of(urls: list[str]) -> list[UUID]:
    return [Entry(url).id for url in urls]


def counts(lookalike: Lookalike, loop: Loop) -> tuple[int, int]:
    found = loop.run(lookalike.index.keypoints.made())
    return found.made, found.of


def stored(lookalike: Lookalike, loop: Loop, urls: list[str]) -> list[bytes | None]:
    found = loop.run(lookalike.index.keypoints.find(ids_of(urls)))
    return [found[image_id].keypoints for image_id in ids_of(urls)]


def make_all(lookalike: Lookalike, loop: Loop) -> None:
    while loop.run(lookalike.keypoint_maker.make_some()):
        pass


def test_every_image_gets_keypoints_once(lookalike: Lookalike, loop: Loop, urls: list[str]) -> None:
    assert counts(lookalike, loop) == (0, 3)
    assert loop.run(lookalike.keypoint_maker.make_some()) == 3
    assert loop.run(lookalike.keypoint_maker.make_some()) == 0
    assert counts(lookalike, loop) == (3, 3)
    for data in stored(lookalike, loop, urls):
        assert data is not None
        keypoints = Keypoints.from_bytes(data)
        assert keypoints is not None
        assert len(keypoints) > 50


def test_keypoints_end_with_their_image(lookalike: Lookalike, loop: Loop, urls: list[str]) -> None:
    make_all(lookalike, loop)
    [image] = loop.run(lookalike.catalog.find_all(ids_of(urls[:1]))).values()
    loop.run(lookalike.indexer.delete([image]))
    assert counts(lookalike, loop) == (2, 2)


def test_other_pixels_have_other_keypoints(
    lookalike: Lookalike, loop: Loop, host: ImageHost, urls: list[str]
) -> None:
    make_all(lookalike, loop)
    before = stored(lookalike, loop, urls)
    host.add("0.png", png(10))
    loop.run(lookalike.indexer.upsert_urls([Entry(url, title="new title") for url in urls]))
    # A new title changes no pixels.
    assert stored(lookalike, loop, urls) == [None, *before[1:]]
    make_all(lookalike, loop)
    after = stored(lookalike, loop, urls)
    assert after[0] not in (None, before[0])


@pytest.mark.parametrize("by", ["claim", "keep"])
def test_keypoints_of_pixels_that_changed_meanwhile_are_not_stored(
    lookalike: Lookalike, loop: Loop, host: ImageHost, urls: list[str], by: str
) -> None:
    table, [image_id, other, _] = lookalike.index.keypoints, ids_of(urls)

    async def change() -> None:
        host.add("0.png", png(11))
        await lookalike.indexer.upsert("web", Entry(urls[0]))

    async def claimed() -> None:
        async with table.claim(limit=3) as claim:
            assert set(claim.thumbnails) == set(ids_of(urls))
            await change()
            await claim.store({image_id: b"stale", other: b"right"})

    async def kept() -> None:
        found = await table.find([image_id, other])
        await change()
        digests = {i: row.digest for i, row in found.items()}
        await table.keep(digests, {image_id: b"stale", other: b"right"})

    loop.run(claimed() if by == "claim" else kept())
    assert stored(lookalike, loop, urls) == [None, b"right", None]


def test_two_processes_make_different_keypoints(
    lookalike: Lookalike, loop: Loop, urls: list[str]
) -> None:
    table = lookalike.index.keypoints

    async def run() -> None:
        async with table.claim(limit=2) as one, table.claim(limit=2) as other:
            assert (len(one.thumbnails), len(other.thumbnails)) == (2, 1)
            assert {*one.thumbnails, *other.thumbnails} == set(ids_of(urls))
            # Changes and deletions wait for no one who makes keypoints.
            gone = await lookalike.catalog.find_all(ids_of(urls))
            await asyncio.wait_for(lookalike.indexer.delete(list(gone.values())), 30)
            await one.store(dict.fromkeys(one.thumbnails, b"late"))

    loop.run(run())
    assert counts(lookalike, loop) == (0, 0)


def test_what_an_interrupted_process_claimed_is_made_by_another(
    lookalike: Lookalike, loop: Loop, urls: list[str]
) -> None:
    async def interrupted() -> None:
        async with lookalike.index.keypoints.claim(limit=3):
            raise KeyboardInterrupt

    async def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            await interrupted()

    loop.run(run())
    assert loop.run(lookalike.keypoint_maker.make_some()) == len(urls)


def test_keypoints_of_an_older_version_are_made_again(
    lookalike: Lookalike, loop: Loop, urls: list[str]
) -> None:
    make_all(lookalike, loop)

    async def age() -> None:
        async with lookalike.database.begin() as connection:
            old = text("UPDATE keypoints SET version = :old, bytes = 'old' WHERE image_id = :id")
            await connection.execute(old, {"old": VERSION - 1, "id": ids_of(urls)[0]})

    loop.run(age())
    assert stored(lookalike, loop, urls)[0] is None
    assert loop.run(lookalike.keypoint_maker.make_some()) == 1
    assert stored(lookalike, loop, urls)[0] not in (None, b"old")


def test_a_thumbnail_that_cannot_be_read_is_tried_once(
    lookalike: Lookalike, loop: Loop, urls: list[str]
) -> None:
    async def damage() -> None:
        async with lookalike.database.begin() as connection:
            broken = text(
                "UPDATE images SET thumbnail = 'broken', thumbnail_key = NULL WHERE id = :id"
            )
            await connection.execute(broken, {"id": ids_of(urls)[1]})

    loop.run(damage())
    assert loop.run(lookalike.keypoint_maker.make_some()) == 3
    assert loop.run(lookalike.keypoint_maker.make_some()) == 0
    assert stored(lookalike, loop, urls)[1] == keypoints_of(b"broken") == b""
