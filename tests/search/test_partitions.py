"""What is given in pages is a partition: nothing is lost and nothing is given twice.

Not even while others add and delete images.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import cos, radians, sin
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.encoding.loading import Encoders
from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import Facts, hamming
from app.pictures.phash import orientations
from app.problems import InvalidRequest
from app.search import components, cursors
from app.search.asked import Asked
from app.search.duplicates import MAX_REMEMBERED, DuplicateFinder, Position
from app.search.pair_proofs import Proved, Two
from app.store import nearest, scans
from app.store.catalog import Entry, NewImage
from app.store.filters import Filters
from app.store.fingerprints import Fingerprints
from app.store.vectors import NewVector
from tests.conftest import named, settings_of
from tests.live import Loop
from tests.samples import facts

T = TypeVar("T")

quickly = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Made:
    """An image that a test made: at an angle in degrees, with a difference hash and a file."""

    angle: float
    dhash: int
    file: int
    title: str = ""
    url: str = ""
    too_plain: bool = False

    @property
    def entry(self) -> Entry:
        return Entry(self.url, self.title).over(None)

    @property
    def id(self) -> UUID:
        return self.entry.id

    @property
    def facts(self) -> Facts:
        return facts(
            dhash=self.dhash,
            sha256=f"{self.file:016x}{self.file:048x}",
            too_plain=self.too_plain,
        )

    @property
    def vector(self) -> NewVector:
        return NewVector(self.entry, self.facts, self.facts.sha256, vector(self.angle))

    def is_like(self, other: "Made") -> bool:
        near = abs(self.angle - other.angle) < 15 and hamming(self.dhash, other.dhash) <= 4
        plain = self.too_plain or other.too_plain
        return (near and not plain) or self.file == other.file


# Cosines of angles between 10 degrees, which are duplicates, and 20.
RELATION: dict[str, Any] = {"min_similarity": cos(radians(15)), "max_bits": 4}


class Believing:
    """Takes whatever is near for a duplicate: made images have no pixels."""

    async def prove(self, pairs: Sequence[Two]) -> Proved:
        return Proved([True] * len(pairs))

    async def alignments(self, pairs: Sequence[tuple[UUID, UUID]]) -> dict[Any, Any]:
        return {}


@dataclass
class Index:
    """An index of made images; `lookalike` is the program on it."""

    lookalike: Lookalike
    loop: Loop
    added: int = 0

    def start(self, images: Sequence[Made]) -> list[Made]:
        """Empty the index, then add images; the same images get the same ids each time."""
        tables = f"images, keypoints, faces, compared_pairs, {self.lookalike.vectors.table.name}"

        async def run() -> None:
            async with self.lookalike.database.begin() as connection:
                await connection.execute(text(f"TRUNCATE {tables}"))

        self.loop.run(run())
        self.added = 0
        return self.add(images)

    def add(self, images: Sequence[Made]) -> list[Made]:
        """Add images; return them with URLs of their own."""
        first, self.added = self.added, self.added + len(images)
        images = [
            replace(image, url=f"https://example.com/{number}")
            for number, image in enumerate(images, first)
        ]

        async def run() -> None:
            async with self.lookalike.database.begin() as connection:
                await self.lookalike.catalog.upsert(
                    connection, [NewImage(image.entry, image.facts) for image in images]
                )
                await self.lookalike.vectors.upsert(connection, [image.vector for image in images])

        self.loop.run(run())
        return images

    def delete(self, images: Iterable[Made]) -> None:
        ids = [image.id for image in images]
        found = self.loop.run(self.lookalike.catalog.find_all(ids))
        self.loop.run(self.lookalike.indexer.delete(list(found.values())))

    def pages(self, turn: Callable[[str | None], Any], cursor: str | None = None) -> Generator[Any]:
        """Yield page after page; a turn returns one, and the cursor of the next."""
        value, cursor = self.loop.run(turn(cursor))
        yield value
        while cursor is not None:
            value, cursor = self.loop.run(turn(cursor))
            yield value

    def groups(
        self, limit: int, *, cursor: str | None = None, **relation: Any
    ) -> Generator[list[list[UUID]]]:
        async def turn(cursor: str | None) -> Any:
            found = await self.lookalike.duplicates.find(
                cursor=cursor, limit=limit, **(relation or RELATION)
            )
            assert len(found.groups) <= limit
            return [[hit.image.id for hit in group] for group in found.groups], found.next

        return self.pages(turn, cursor)

    def results(self, asked: Asked, limit: int) -> Generator[list[list[UUID]]]:
        """The ids of each hit and of the places of its file, page by page."""

        async def turn(cursor: str | None) -> Any:
            searched = cursor or asked.cursor() or ""
            found = await self.lookalike.searcher.next_page(searched, limit=limit)
            assert len(found.hits) <= limit
            return [hit.ids for hit in found.hits], found.cursor

        return self.pages(turn)


@pytest.fixture(scope="module")
def index(
    postgres: str, encoder: Encoder, loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Index]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE partitions TEMPLATE migrated")
    folder = tmp_path_factory.mktemp("partitions")
    chosen = settings_of(named(postgres, "partitions"), folder)
    opened = open_lookalike(chosen, announce=lambda _: None, encoders=Encoders.single(encoder))
    with loop.entered(opened) as lookalike:
        finder = DuplicateFinder(
            catalog=lookalike.catalog,
            fingerprints=Fingerprints(lookalike.database),
            vectors=lookalike.vectors,
            hashes=lookalike.index.hashes,
            proofs=Believing(),
        )
        yield Index(replace(lookalike, duplicates=finder), loop)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE partitions WITH (FORCE)")


def vector(angle: float) -> Any:
    made = np.zeros(512, np.float32)
    made[:2] = cos(radians(angle)), sin(radians(angle))
    return made


def connected(images: Iterable[Made]) -> set[frozenset[UUID]]:
    """The connected components of two images and more."""
    waiting, found = set(images), set[frozenset[UUID]]()
    while waiting:
        members, new = set[Made](), {waiting.pop()}
        while new:
            members |= new
            new = {o for o in waiting if any(o.is_like(m) for m in new)}
            waiting -= new
        if len(members) > 1:
            found.add(frozenset(member.id for member in members))
    return found


def some(of: Iterable[T], data: st.DataObject) -> list[T]:
    """Some of these, half of them on average."""
    return [one for one in of if data.draw(st.booleans())]


# Chains of some length, and gaps between them.
images = st.builds(
    Made,
    angle=st.integers(0, 11).map(lambda place: place * 10.0),
    dhash=st.sampled_from([0, 0b111, 0xFFFF]),
    file=st.integers(1, 40),
    too_plain=st.sampled_from([False] * 7 + [True]),
)


@quickly
@given(st.lists(images, min_size=2, max_size=20), st.integers(1, 6))
def test_groups_are_the_connected_components(index: Index, made: list[Made], limit: int) -> None:
    made = index.start(made)
    found = [group for page in index.groups(limit) for group in page]
    assert {frozenset(group) for group in found} == connected(made)
    assert len(found) == len({image_id for group in found for image_id in group[:1]})
    leaders = [group[0] for group in found]
    assert leaders == sorted(leaders) == [min(group) for group in found]


@quickly
@given(st.lists(images, min_size=4, max_size=20), st.integers(1, 2), st.data())
def test_groups_are_a_partition_while_others_add_and_delete(
    index: Index, made: list[Made], limit: int, data: st.DataObject
) -> None:
    made = index.start(made)
    kept, given_ids = list(made), list[UUID]()
    for page in index.groups(limit):
        given_ids += [image_id for group in page for image_id in group]
        gone = some(kept, data)[:3] if data.draw(st.booleans()) else []
        index.delete(gone)
        kept = [image for image in kept if image not in gone]
        index.add(data.draw(st.lists(images, max_size=3)))
    assert len(given_ids) == len(set(given_ids))
    assert set(given_ids) <= {image.id for image in made}
    lasting = {image_id for group in connected(kept) for image_id in group}
    assert lasting <= set(given_ids)


def test_what_a_deletion_leaves_of_a_group_is_not_another_one(index: Index) -> None:
    chain = index.start([Made(place * 10.0, 0, place + 1) for place in range(9)])
    shown: list[list[UUID]] = []
    for page in index.groups(1):
        shown += page
        # Three times two, linked to each other, and none to the others.
        index.delete(chain[2::3])
    assert [sorted(group) for group in shown] == [sorted(image.id for image in chain)]
    assert len([group for page in index.groups(1) for group in page]) == 3


def test_a_chain_longer_than_a_query_is_one_group(index: Index) -> None:
    chain = index.start([Made(place * 10.0 / 9, 0, place + 1) for place in range(150)])
    index.add([Made(250, place * 0x1111, 1000 + place) for place in range(60)])
    # Neighbours are 1.1 degrees apart.
    relation = {"min_similarity": cos(radians(1.6)), "max_bits": 0}
    [group] = [group for page in index.groups(10, **relation) for group in page]
    assert sorted(group) == sorted(image.id for image in chain)


def test_a_crowd_is_one_group_with_those_at_its_edge(index: Index) -> None:
    """The edge has the crowd for neighbours, each of whom has 50 that are nearer."""
    crowd = [Made(place / 100, 0, place + 1) for place in range(70)]
    made = index.start([*crowd, Made(5, 0, 100)])
    [group] = [group for page in index.groups(10) for group in page]
    assert sorted(group) == sorted(image.id for image in made)


def test_a_group_that_is_too_large_is_split(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "MAX_GROUP", 50)
    pairs = 35
    made = [
        Made(place * 0.75 + twin * 0.05, 0, 1 + 2 * place + twin)
        for place in range(pairs)
        for twin in range(2)
    ]
    made = index.start(made)
    relation = {"min_similarity": cos(radians(0.9)), "max_bits": 0}
    found = [group for page in index.groups(100, **relation) for group in page]
    expected = {frozenset(i.id for i in made[p : p + 2]) for p in range(0, len(made), 2)}
    assert {frozenset(group) for group in found} == expected
    assert len(found) == len(expected)


def test_a_file_with_too_many_images_has_one_group(index: Index) -> None:
    made = index.start([Made(0, 0, 7)] * (components.MAX_GROUP + 50))
    near = index.add([Made(100, 0, 8), Made(110, 0, 9)])
    lowest = sorted(image.id for image in made)[: components.MAX_GROUP]
    groups = [sorted(group) for page in index.groups(3) for group in page]
    assert sorted(groups) == sorted([lowest, sorted(image.id for image in near)])


def test_a_file_with_many_images_is_in_one_group_with_what_is_like_it(index: Index) -> None:
    made = index.start([*[Made(10, 0, 7)] * 60, Made(0, 0, 8), *[Made(20, 0, 9)] * 60])
    [group] = [group for page in index.groups(3) for group in page]
    assert sorted(group) == sorted(image.id for image in made)


def test_a_cursor_of_duplicates_that_is_none_is_refused(index: Index) -> None:
    made = index.start([Made(0, 0, 7), Made(0, 0, 7)])
    far = cursors.written(b"\1" + b"\xff" * 16 + b"\x7f" + b"\xff" * 7)
    for cursor in ("", "x", far, "é", "AAAA", "A" * 34, "_" * 34, asked_for(0).cursor() or ""):
        with pytest.raises(InvalidRequest, match="cursor: not a cursor that this server issued"):
            list(index.groups(1, cursor=cursor))
    # An older version's cursor is an id.
    first = min(image.id for image in made)
    assert list(index.groups(1, cursor=str(first))) == [[]]
    assert len(next(index.groups(1, cursor=str(UUID(int=0))))) == 1


def test_what_a_cursor_remembers_is_bounded() -> None:
    many = [[UUID(int=n << 64) for n in range(500 * g, 500 * g + 500)] for g in range(4)]
    position = Position(datetime(2020, 1, 1, tzinfo=UTC)).moved(UUID(int=0), many)
    assert len(position.shown) == MAX_REMEMBERED
    cursor = position.cursor()
    assert len(cursor) < 8000
    assert Position.read(cursor) == position


def asked_for(angle: float | None, words: str = "") -> Asked:
    packed = None if angle is None else vector(angle).astype(np.float16).tobytes()
    return Asked(vector=packed, words=words)


@st.composite
def described(draw: st.DrawFn) -> Made:
    """An image of one of a few files, each of which has one vector; some have the word."""
    file = draw(st.integers(1, 30))
    return Made(file % 7 * 10.0, 0, file, draw(st.sampled_from(["", "a zebra", "zebra zebra"])))


@quickly
@given(
    st.lists(described(), min_size=1, max_size=25),
    st.sampled_from([None, 0.0, 30.0]),
    st.integers(1, 9),
    st.data(),
)
def test_pages_of_a_merged_ranking_are_a_partition(
    index: Index, made: list[Made], angle: float | None, limit: int, data: st.DataObject
) -> None:
    made = index.start([*made, Made(0, 0, 99, "zebra")])
    kept, shown, files = list(made), list[UUID](), list[int]()
    by_id = {image.id: image for image in made}
    for page in index.results(asked_for(angle, "zebra"), limit):
        shown += [image_id for ids in page for image_id in ids]
        files += [by_id[ids[0]].file for ids in page if ids[0] in by_id]
        gone = some(kept, data)[:4]
        index.delete(gone)
        kept = [image for image in kept if image not in gone]
        index.add(data.draw(st.lists(described(), max_size=3)))
    assert len(shown) == len(set(shown))
    assert len(files) == len(set(files))
    lasting = {image.id for image in kept if angle is not None or image.title}
    assert lasting <= set(shown)


@quickly
@given(st.lists(described(), min_size=1, max_size=25), st.integers(1, 9), st.data())
def test_pages_of_the_nearest_are_a_partition(
    index: Index, made: list[Made], limit: int, data: st.DataObject
) -> None:
    made = index.start(made)
    kept, shown, files = list(made), list[UUID](), list[int]()
    by_id = {image.id: image for image in made}
    for page in index.results(asked_for(20, "no such words"), limit):
        shown += [image_id for ids in page for image_id in ids]
        files += [by_id[ids[0]].file for ids in page]
        gone = some(kept, data)[:4]
        index.delete(gone)
        kept = [image for image in kept if image not in gone]
        added = index.add(data.draw(st.lists(described(), max_size=3)))
        by_id |= {image.id: image for image in added}
    assert len(shown) == len(set(shown))
    assert len(files) == len(set(files))
    assert {image.file for image in kept} <= set(files)


class Scattered(Made):
    """An image whose vector is in no order, so that an HNSW index misses some."""

    @property
    def vector(self) -> NewVector:
        random = np.random.default_rng(self.file).normal(size=512).astype(np.float32)
        return NewVector(self.entry, self.facts, self.facts.sha256, random / np.linalg.norm(random))


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**31), st.integers(3, 40), st.booleans())
def test_pages_show_what_an_exact_scan_shows(
    index: Index, seed: int, limit: int, is_filtered: bool
) -> None:
    """With candidates as few as results, the first page misses images, and the others none."""
    made = index.start([Scattered(0, 0, seed + place) for place in range(300)])
    asked = asked_for(0)
    if is_filtered:
        asked = asked.model_copy(update={"filters": Filters(formats=["JPEG"])})
    query = asked.query_vector
    assert query is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "is_small", is_never_small)
        patch.setattr(nearest, "ROWS_PER_CANDIDATE", 0)
        for name in ("EF_SEARCH", "MIN_EF_FILTERED", "MAX_EF_FILTERED", "MIN_RERANKED"):
            patch.setattr(scans, name, 1)
        pages = [[ids[0] for ids in page] for page in index.results(asked, limit)]
    shown = [image_id for page in pages for image_id in page]
    assert len(shown) == len(set(shown))
    assert set(shown) == {image.id for image in made}
    similarities = index.loop.run(index.lookalike.vectors.similarities(query, shown))
    for ids in (pages[0], [image_id for page in pages[1:] for image_id in page]):
        order = [similarities[image_id] for image_id in ids]
        assert order == sorted(order, reverse=True)


async def is_never_small(*_: Any) -> bool:
    return False


def test_a_file_is_on_one_page_whatever_its_vectors(index: Index) -> None:
    made = index.start([Made(place * 3.0, 0, 1 + place % 4) for place in range(16)])
    pages = list(index.results(asked_for(0), 1))
    assert [ids[0] for page in pages for ids in page] == [image.id for image in made[:4]]


def test_many_images_at_one_distance_are_all_shown(index: Index) -> None:
    index.start([Made(10, 0, 1)] * 1100)
    index.add([Made(10, 0, 2 + place) for place in range(30)])
    shown = [i for page in index.results(asked_for(0), 7) for ids in page for i in ids[:1]]
    images = index.loop.run(index.lookalike.catalog.find_all(shown))
    assert len(shown) == len({image.sha256 for image in images.values()}) == 31


def test_a_threshold_does_not_end_a_merged_ranking_early(index: Index) -> None:
    made = index.start([Made(60.0 * (p % 2), 0, p + 1, "zebra") for p in range(12)])
    asked = asked_for(0, "zebra").model_copy(update={"min_similarity": 0.9})
    shown = [ids[0] for page in index.results(asked, 2) for ids in page]
    assert sorted(shown) == sorted(image.id for image in made[::2])


def test_the_longest_cursors_fit_in_a_url(index: Index) -> None:
    index.start([Made(p / 10, 0, p + 1, "zebra" if p < 300 else "") for p in range(600)])
    asked = asked_for(59, "zebra")
    first = index.loop.run(index.lookalike.searcher.next_page(asked.cursor() or "", limit=1))
    assert first.cursor is not None
    assert len(first.cursor) < 8000
    left = Asked.read(first.cursor, spaces=index.lookalike.index.spaces).ranking
    assert len(left) > 500
    shown = [i for page in index.results(asked, 100) for ids in page for i in ids]
    assert len(shown) == len(set(shown)) == len(left) + 1


@quickly
@given(st.lists(images, min_size=1, max_size=20), st.integers(1, 5), st.data())
def test_pages_of_the_list_are_a_partition(
    index: Index, made: list[Made], limit: int, data: st.DataObject
) -> None:
    """Images that were written together have the same time."""
    made = index.start(made)
    kept, shown, before = list(made), list[UUID](), None
    while True:
        page = index.loop.run(index.lookalike.catalog.newest(limit=limit, before=before))
        if not page:
            break
        shown += [image.id for image in page]
        before = (page[-1].indexed_at, page[-1].id)
        gone = some(kept, data)[:3]
        index.delete(gone)
        kept = [image for image in kept if image not in gone]
        index.add(data.draw(st.lists(images, max_size=2)))
    assert len(shown) == len(set(shown))
    assert {image.id for image in kept} <= set(shown)


class Shown(Made):
    """An image with a hash in one of eight orientations, whose vector is in no order."""

    @property
    def facts(self) -> Facts:
        # Of a few originals, each in other orientations.
        turned = orientations(HASHES[self.dhash % len(HASHES)])
        return replace(super().facts, phash=turned[self.dhash // len(HASHES) % 8])

    @property
    def vector(self) -> NewVector:
        random = np.random.default_rng(self.file).normal(size=512).astype(np.float32)
        return NewVector(self.entry, self.facts, self.facts.sha256, random / np.linalg.norm(random))

    def is_like(self, other: Made) -> bool:
        same = self.dhash % len(HASHES) == other.dhash % len(HASHES)
        return (same and not self.too_plain and not other.too_plain) or self.file == other.file


HASHES = [0x0123_4567_89AB_CDEF, 0x7EDC_BA98_7654_3210 ^ 0xFFFF, 0x0F0F_3333_5555_00FF]

shown_images = st.builds(
    Shown,
    angle=st.just(0.0),
    dhash=st.integers(0, 8 * len(HASHES) - 1),
    file=st.integers(1, 10**6),
    too_plain=st.sampled_from([False] * 7 + [True]),
)


@quickly
@given(st.lists(shown_images, min_size=2, max_size=20), st.integers(1, 6))
def test_images_in_any_orientation_are_found_whatever_their_vectors(
    index: Index, made: list[Made], limit: int
) -> None:
    made = index.start(made)
    relation = {"min_similarity": 0.85, "max_bits": 64}
    found = [group for page in index.groups(limit, **relation) for group in page]
    assert {frozenset(group) for group in found} == connected(made)
    assert sum(map(len, found)) == len({image_id for group in found for image_id in group})


def test_only_the_same_bytes_are_as_similar_as_that(index: Index) -> None:
    made = index.start([Shown(0, 0, 1), Shown(0, len(HASHES), 2), Shown(0, 2 * len(HASHES), 2)])
    for least, expected in ((0.99, 3), (1.0, 2)):
        relation = {"min_similarity": least, "max_bits": 0}
        [group] = [group for page in index.groups(9, **relation) for group in page]
        assert len(group) == expected
    assert len(made) == 3
