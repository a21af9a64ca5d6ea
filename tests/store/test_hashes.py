"""Hashes of images: near ones are found in all orientations, missing ones made from thumbnails."""

from uuid import UUID

from PIL import Image
from sqlalchemy import text

from app.indexing.keypoint_maker import HASHES
from app.lookalike import Lookalike
from app.pictures.phash import orientations
from app.store.catalog import NewImage
from app.store.hashes import Near
from app.store.images import Entry
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode, facts, photo, png

HASH = 0x0123_4567_89AB_CDEF


def add(lookalike: Lookalike, loop: Loop, *given: object) -> list[UUID]:
    """Add an image of each hash, None for one without, "plain" for one that is too plain."""
    entries = [Entry(f"https://example.com/{number}").over(None) for number in range(len(given))]
    images = [
        NewImage(
            entry,
            facts(phash=HASH, too_plain=True) if value == "plain" else facts(phash=value),
        )
        for entry, value in zip(entries, given, strict=True)
    ]

    async def run() -> None:
        async with lookalike.database.begin() as connection:
            await lookalike.catalog.upsert(connection, images)

    loop.run(run())
    return [entry.id for entry in entries]


def flipped(value: int, bits: int) -> int:
    """A hash of which the lowest bits are others."""
    return value ^ ((1 << bits) - 1)


def test_near_hashes_are_found_in_every_orientation(lookalike: Lookalike, loop: Loop) -> None:
    turned = orientations(HASH)
    given = [*turned, flipped(turned[5], 2), flipped(turned[6], 11), None, "plain", ~HASH]
    ids = add(lookalike, loop, *given)
    hashes = lookalike.index.hashes
    near = loop.run(hashes.near({ids[0]: HASH}, max_bits=10, limit=500))[ids[0]]
    assert {each.id: each.bits for each in near} == {**dict.fromkeys(ids[1:8], 0), ids[8]: 2}
    assert near == sorted(near, key=lambda each: (each.bits, each.id))
    assert loop.run(hashes.near({ids[0]: HASH}, max_bits=1, limit=2)) == {ids[0]: near[:2]}
    # Each finds the others.
    found = loop.run(hashes.near(dict(zip(ids[:9], given[:9], strict=True)), max_bits=8, limit=9))
    assert {i: len(others) for i, others in found.items()} == dict.fromkeys(ids[:9], 8)
    assert Near(ids[0], 2) in found[ids[8]]
    assert loop.run(hashes.near({}, max_bits=10, limit=500)) == {}


def forget(lookalike: Lookalike, loop: Loop) -> None:
    """Leave the images as an older version did."""

    async def run() -> None:
        async with lookalike.database.begin() as connection:
            await connection.execute(text("UPDATE images SET phash = NULL, phash_keys = NULL"))

    loop.run(run())


def stored(lookalike: Lookalike, loop: Loop) -> list[tuple[int, list[int]]]:
    async def run() -> list[tuple[int, list[int]]]:
        async with lookalike.database.begin() as connection:
            rows = await connection.execute(
                text("SELECT phash, phash_keys FROM images ORDER BY id")
            )
            return [(row.phash, row.phash_keys) for row in rows]

    return loop.run(run())


def missing(lookalike: Lookalike, loop: Loop) -> int:
    return loop.run(lookalike.index.stats()).unhashed


def test_a_new_image_has_a_hash_and_an_old_one_gets_it(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    urls = [host.add(f"{number}.png", png(number)) for number in range(3)]
    loop.run(lookalike.indexer.upsert_urls([Entry(url) for url in urls]))
    before = stored(lookalike, loop)
    assert missing(lookalike, loop) == 0
    forget(lookalike, loop)
    assert missing(lookalike, loop) == 3
    while loop.run(lookalike.keypoint_maker.make_some()):
        pass
    assert missing(lookalike, loop) == 0
    for (made, keys), (given, _) in zip(stored(lookalike, loop), before, strict=True):
        assert ((made ^ given) & (2**64 - 1)).bit_count() <= 2
        assert len(keys) == 3


def test_hashes_are_made_some_at_a_time_and_go_on_where_they_ended(
    lookalike: Lookalike, loop: Loop
) -> None:
    thumbnail = encode(Image.new("RGB", (8, 8)), "JPEG")
    add(lookalike, loop, *[None] * (HASHES + 5))

    async def run() -> None:
        async with lookalike.database.begin() as connection:
            await connection.execute(
                text("UPDATE images SET thumbnail = :thumbnail"), {"thumbnail": thumbnail}
            )

    loop.run(run())
    made = [loop.run(lookalike.keypoint_maker.make_hashes()) for _ in range(3)]
    assert made == [HASHES, 5, 0]


def test_a_thumbnail_that_cannot_be_read_is_read_once(lookalike: Lookalike, loop: Loop) -> None:
    [image_id] = add(lookalike, loop, None)
    assert loop.run(lookalike.keypoint_maker.make_hashes()) == 1
    assert loop.run(lookalike.keypoint_maker.make_hashes()) == 0
    assert stored(lookalike, loop) == [(0, [])]
    assert loop.run(lookalike.index.hashes.near({image_id: 0}, max_bits=64, limit=9)) == {}


def test_no_hash_is_kept_of_pixels_that_have_changed(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    url = host.add("a.png", png(1))
    loop.run(lookalike.indexer.upsert("web", Entry(url)))
    forget(lookalike, loop)
    hashes = lookalike.index.hashes
    claimed = loop.run(hashes.missing(limit=9))
    host.add("a.png", encode(photo(2)))
    loop.run(lookalike.indexer.upsert("web", Entry(url)))
    [after] = stored(lookalike, loop)
    loop.run(hashes.keep(claimed, {claimed[0].id: 1}))
    assert stored(lookalike, loop) == [after]
    # Nor if its row has none again.
    forget(lookalike, loop)
    loop.run(hashes.keep(claimed, {claimed[0].id: 1}))
    assert missing(lookalike, loop) == 1


def test_the_hash_comes_back_from_the_trash(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    url = host.add("a.png", png(1))
    loop.run(lookalike.indexer.upsert("web", Entry(url)))
    before = stored(lookalike, loop)
    loop.run(lookalike.trash.put([Entry(url).id]))
    assert stored(lookalike, loop) == []
    loop.run(lookalike.trash.restore([Entry(url).id]))
    assert stored(lookalike, loop) == before
