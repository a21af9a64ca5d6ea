"""An index with two vectors per image, each of which may be missing."""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.indexing.archive import Archive, Imported
from app.lookalike import Lookalike, open_lookalike
from app.search.query import Query, Term
from app.settings import Settings
from app.store.images import Entry
from app.store.spaces import Space
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.process import lookalike as command
from tests.samples import png


def ignore(_: str) -> None:
    pass


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(write_clip(tmp_path / "tiny"))


@pytest.fixture
def semantic_only(settings: Settings, clip: str) -> Settings:
    """The settings of an index with the vectors of a CLIP and no others."""
    return settings.model_copy(update={"encoder": clip})


@pytest.fixture
def both(semantic_only: Settings) -> Settings:
    return semantic_only.model_copy(update={"copy_encoder": "builtin"})


@pytest.fixture
def pair(both: Settings, loop: Loop) -> Generator[Lookalike]:
    with loop.entered(open_lookalike(both, announce=ignore)) as lookalike:
        yield lookalike


def counts(lookalike: Lookalike, loop: Loop) -> tuple[int, int]:
    """How many copy vectors and how many semantic vectors there are."""
    spaces = lookalike.index.spaces
    return loop.run(spaces.copy.vectors.count()), loop.run(spaces.semantic.vectors.count())


def embedded(lookalike: Lookalike) -> tuple[int, int]:
    """How many images each encoder has embedded."""
    spaces = lookalike.index.spaces
    return spaces.copy.encoder.images.items, spaces.semantic.encoder.images.items


def vectors_of(space: Space, loop: Loop, entries: list[Entry]) -> dict[UUID, bytes]:
    found = loop.run(space.vectors.fetch([entry.id for entry in entries]))
    return {image_id: vector.tobytes() for image_id, vector in found.items()}


def indexed(settings: Settings, loop: Loop, host: ImageHost, *, number: int) -> list[Entry]:
    entries = [Entry(host.add(f"{seed}.png", png(seed))) for seed in range(number)]
    with loop.entered(open_lookalike(settings, announce=ignore)) as lookalike:
        outcomes = loop.run(lookalike.indexer.upsert_urls(entries))
    assert {outcome.status for outcome in outcomes} == {"indexed"}
    return entries


async def reindexed(lookalike: Lookalike, *spaces: Space) -> None:
    async for _ in lookalike.reindexer.run(spaces):
        pass


def test_an_image_gets_both_vectors(pair: Lookalike, loop: Loop, host: ImageHost) -> None:
    entry = Entry(host.add("a.png", png(1)))
    [outcome] = loop.run(pair.indexer.upsert_urls([entry]))
    assert (outcome.status, counts(pair, loop), embedded(pair)) == ("indexed", (1, 1), (1, 1))
    # The same bytes elsewhere, and again, need neither encoder.
    other = Entry(host.add("b.png", png(1)))
    loop.run(pair.indexer.upsert_urls([entry, other]))
    assert (counts(pair, loop), embedded(pair)) == ((2, 2), (1, 1))
    stats = loop.run(pair.index.stats())
    assert (stats.vectors, stats.copy_vectors, stats.encoder.name) == (2, 2, "tiny")
    assert stats.copy_encoder is not None
    assert stats.copy_encoder.name == "builtin"
    assert [table.in_use for table in stats.tables if table.encoder] == [True, True]
    loop.run(pair.indexer.delete([loop.run(pair.catalog.find(entry.id))]))
    assert counts(pair, loop) == (1, 1)


def test_both_vectors_are_stored_or_none(pair: Lookalike, loop: Loop, host: ImageHost) -> None:
    async def rename(old: str, new: str) -> None:
        async with pair.database.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    table = pair.index.spaces.semantic.vectors.table.name
    loop.run(rename(table, "elsewhere"))
    entry = Entry(host.add("a.png", png(1)))
    try:
        with pytest.raises(Exception, match="does not exist"):
            loop.run(pair.indexer.upsert_urls([entry]))
    finally:
        loop.run(rename("elsewhere", table))
    assert (loop.run(pair.catalog.count()), counts(pair, loop)) == (0, (0, 0))
    loop.run(pair.indexer.upsert_urls([entry]))
    assert counts(pair, loop) == (1, 1)


def test_an_upsert_makes_only_the_vector_that_is_missing(
    pair: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)))
    loop.run(pair.indexer.upsert_urls([entry]))
    spaces = pair.index.spaces
    for space, made in ((spaces.copy, (2, 1)), (spaces.semantic, (2, 2))):

        async def forget(table: str = space.vectors.table.name) -> None:
            async with pair.database.begin() as connection:
                await connection.execute(text(f"DELETE FROM {table}"))

        before = vectors_of(space, loop, [entry])
        loop.run(forget())
        loop.run(pair.indexer.upsert_urls([entry]))
        assert (counts(pair, loop), embedded(pair)) == ((1, 1), made)
        assert vectors_of(space, loop, [entry]) == before


def test_an_index_without_copy_vectors_goes_on_until_it_is_reindexed(
    semantic_only: Settings, both: Settings, loop: Loop, host: ImageHost
) -> None:
    entries = indexed(semantic_only, loop, host, number=3)
    said: list[str] = []
    with loop.entered(open_lookalike(both, announce=said.append)) as as_before:
        assert as_before.index.spaces.are_one
        assert [line for line in said if "reindex" in line] == [
            "This index has no copy vectors: `lookalike reindex --copy` adds them, by which "
            "altered copies of an image are found far better"
        ]
        query = Query([Term(png(1))], limit=1)
        assert loop.run(as_before.searcher.search(query)).hits[0].image.url == entries[1].url
    with loop.entered(open_lookalike(both, announce=ignore, in_use=False)) as reindexing:
        before = vectors_of(reindexing.index.spaces.semantic, loop, entries)
        loop.run(reindexed(reindexing, *reindexing.index.spaces.all))
        assert embedded(reindexing) == (3, 0)
        assert vectors_of(reindexing.index.spaces.semantic, loop, entries) == before
        reindexing.index.use_encoder()
    said.clear()
    auto = both.model_copy(update={"encoder": "auto"})
    with loop.entered(open_lookalike(auto, announce=said.append)) as after:
        assert not after.index.spaces.are_one
        assert (after.encoder.model.name, counts(after, loop)) == ("tiny", (3, 3))
    assert [line for line in said if "reindex" in line] == []


def test_an_index_of_the_builtin_encoder_goes_on_and_says_what_it_lacks(
    settings: Settings, both: Settings, loop: Loop, host: ImageHost
) -> None:
    entries = indexed(settings, loop, host, number=3)
    said: list[str] = []
    auto = both.model_copy(update={"encoder": "auto"})
    with loop.entered(open_lookalike(auto, announce=said.append)) as as_before:
        assert as_before.index.spaces.are_one
        assert as_before.encoder.model.name == "builtin"
    assert any("`lookalike reindex --encoder lite`" in line for line in said)
    # Whoever chooses the encoder knows.
    said.clear()
    chosen = both.model_copy(update={"encoder": "builtin"})
    with loop.entered(open_lookalike(chosen, announce=said.append)) as as_before:
        assert as_before.index.spaces.are_one
    assert said == []
    # Its vectors are the copy vectors of what comes.
    with loop.entered(open_lookalike(both, announce=ignore, in_use=False)) as reindexing:
        spaces = reindexing.index.spaces
        before = vectors_of(spaces.copy, loop, entries)
        loop.run(reindexed(reindexing, *spaces.all))
        assert (counts(reindexing, loop), embedded(reindexing)) == ((3, 3), (0, 3))
        assert vectors_of(spaces.copy, loop, entries) == before


def test_an_interrupted_reindex_is_resumed(
    semantic_only: Settings, both: Settings, loop: Loop, host: ImageHost
) -> None:
    indexed(semantic_only, loop, host, number=5)

    async def begin(lookalike: Lookalike) -> None:
        steps = lookalike.reindexer.run(lookalike.index.spaces.all, batch=2)
        await anext(steps)
        await steps.aclose()

    with loop.entered(open_lookalike(both, announce=ignore, in_use=False)) as interrupted:
        loop.run(begin(interrupted))
        assert counts(interrupted, loop) == (2, 5)
    # Until it is complete, searches go on without copy vectors.
    with loop.entered(open_lookalike(both, announce=ignore)) as meanwhile:
        assert meanwhile.index.spaces.are_one
    with loop.entered(open_lookalike(both, announce=ignore, in_use=False)) as resumed:
        loop.run(reindexed(resumed, *resumed.index.spaces.all))
        assert (counts(resumed, loop), embedded(resumed)) == ((5, 5), (3, 0))
        resumed.index.use_encoder()
    # A server that has not been restarted adds images without a copy vector.
    with loop.entered(open_lookalike(semantic_only, announce=ignore)) as old:
        loop.run(old.indexer.upsert_urls([Entry(host.add("new.png", png(9)))]))
    said: list[str] = []
    with loop.entered(open_lookalike(both, announce=said.append)) as after:
        assert counts(after, loop) == (5, 6)
    assert [line for line in said if "reindex" in line] == [
        "1 images have no copy vector, so their altered copies are found less well: "
        "run `lookalike reindex --copy`"
    ]


@pytest.mark.parametrize("which", ["copy", "semantic"])
def test_one_space_is_reindexed_and_the_other_left_alone(
    pair: Lookalike, loop: Loop, host: ImageHost, which: str
) -> None:
    entries = [Entry(host.add(f"{seed}.png", png(seed))) for seed in range(3)]
    loop.run(pair.indexer.upsert_urls(entries))
    spaces = pair.index.spaces

    async def forget() -> None:
        async with pair.database.begin() as connection:
            for space in spaces.all:
                await connection.execute(text(f"DELETE FROM {space.vectors.table.name}"))

    loop.run(forget())
    loop.run(reindexed(pair, getattr(spaces, which)))
    assert counts(pair, loop) == ((3, 0) if which == "copy" else (0, 3))


def test_an_export_has_both_vectors_and_an_import_takes_those_it_knows(
    pair: Lookalike,
    settings: Settings,
    new_database: Callable[..., str],
    loop: Loop,
    host: ImageHost,
    tmp_path: Path,
) -> None:
    entries = [Entry(host.add(f"{seed}.png", png(seed))) for seed in range(3)]
    loop.run(pair.indexer.upsert_urls(entries))
    file = tmp_path / "both.parquet"
    before = [vectors_of(space, loop, entries) for space in pair.index.spaces.all]

    async def write() -> None:
        async for _ in Archive(pair.database, pair.catalog, pair.index.spaces).write(file):
            pass

    async def read(lookalike: Lookalike) -> Imported:
        archive = Archive(lookalike.database, lookalike.catalog, lookalike.index.spaces)
        steps = [done async for done in archive.read(file)]
        async for _ in archive.build_index():
            pass
        return steps[-1]

    loop.run(write())
    for changed, found in (
        ({"encoder": pair.encoder.source, "copy_encoder": "builtin"}, before),
        # The vectors of an index of one encoder are in whichever column has them.
        ({"encoder": "builtin"}, before[:1]),
        ({"encoder": pair.encoder.source, "copy_encoder": "off"}, before[1:]),
    ):
        other = settings.model_copy(update={**changed, "database_url": SecretStr(new_database())})
        with loop.entered(open_lookalike(other, announce=ignore)) as lookalike:
            assert loop.run(read(lookalike)) == Imported(3, 3)
            spaces = lookalike.index.spaces.all
            assert [vectors_of(space, loop, entries) for space in spaces] == found
            assert embedded(lookalike) == (0, 0)


def test_commands_reindex_each_and_drop_what_is_not_in_use(
    database_url: str, clip: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(png(seed))
    environment = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path / "data")}

    def run(*arguments: str, **more: str) -> tuple[int, str, str]:
        done = command(*arguments, **{**environment, "ENCODER": clip, **more})
        return done.returncode, done.stdout, done.stderr

    assert run("index", str(tmp_path / "photos"), COPY_ENCODER="off")[0] == 0
    code, out, err = run("stats", "--json")
    assert (code, json.loads(out)["copy_vectors"]) == (0, None)
    assert "lookalike reindex --copy" in err
    code, _, err = run("reindex", "--copy", COPY_ENCODER="off")
    assert (code, "no copy vectors" in err) == (1, True)
    assert run("reindex", "--copy")[0] == 0
    code, out, err = run("stats", "--json", ENCODER="auto")
    stats = json.loads(out)
    assert (stats["vectors"], stats["copy_vectors"]) == (2, 2)
    assert (stats["encoder"]["name"], stats["copy_encoder"]["name"]) == ("tiny", "builtin")
    code, _, err = run("model", "drop", "builtin")
    assert (code, "COPY_ENCODER=off" in err) == (1, True)
    assert run("model", "drop", "builtin", COPY_ENCODER="off")[0] == 0


def test_vectors_are_the_same_alone_and_beside_each_other(
    pair: Lookalike, settings: Settings, loop: Loop, host: ImageHost
) -> None:
    """The copy vector of an index made by an older version is that of a pair."""
    entry = Entry(host.add("a.png", png(1)))
    loop.run(pair.indexer.upsert_urls([entry]))
    copy = pair.index.spaces.copy
    beside = loop.run(copy.vectors.fetch([entry.id]))[entry.id]
    prepared = loop.run(pair.decoder.decode_and(png(1), copy.encoder.prepare))[1]
    alone = loop.run(copy.encoder.embed_prepared(prepared))
    assert float(np.dot(beside, alone)) > 0.9999
