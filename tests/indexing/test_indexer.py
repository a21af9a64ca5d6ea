import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from app.indexing.files import find_files
from app.lookalike import Lookalike, open_lookalike
from app.problems import NotFound
from app.search.query import Query, Term
from app.settings import Settings
from app.store.filters import Filters
from app.store.images import Entry
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import altered, png


def test_unchanged_bytes_are_not_embedded_again(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)))
    for status in ("indexed", "unchanged", "unchanged"):
        assert loop.run(lookalike.indexer.upsert("web", entry)).status == status
    assert lookalike.encoder.images.items == 1
    assert host.asked["a.png"] == 3


def test_changed_bytes_replace_row_and_vector(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)), title="kept")
    loop.run(lookalike.indexer.upsert("web", entry))
    host.add("a.png", png(2))
    assert loop.run(lookalike.indexer.upsert("web", Entry(entry.url))).status == "updated"
    results = loop.run(lookalike.searcher.search(Query([Term(png(2))], limit=10)))
    assert [(hit.match, hit.image.title) for hit in results.hits] == [("exact", "kept")]
    assert loop.run(lookalike.catalog.count()) == loop.run(lookalike.vectors.count()) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>", "not an image"),
        (png(1)[:500], "damaged"),
        (png(1) + bytes(30_000_000), "larger than 20 MB"),
    ],
    ids=["empty", "html", "cut", "large"],
)
def test_an_unusable_image_fails_alone_with_a_reason(
    lookalike: Lookalike, loop: Loop, host: ImageHost, data: bytes, reason: str
) -> None:
    entries = [Entry(host.add("bad", data)), Entry(host.add("good", png(2)))]
    bad, good = loop.run(lookalike.indexer.upsert_urls(entries))
    assert (bad.status, good.status) == ("failed", "indexed")
    assert reason in (bad.reason or "")


def test_an_image_that_disappears_from_the_web_stays_indexed(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)))
    loop.run(lookalike.indexer.upsert("web", entry))
    del host.pictures["a.png"]
    assert loop.run(lookalike.indexer.upsert("web", entry)).status == "failed"
    results = loop.run(lookalike.searcher.search(Query([Term(png(1))], limit=10)))
    assert len(results.hits) == 1


def test_files_are_indexed_in_place(lookalike: Lookalike, loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "Ferien am Meer #1.png"
    path.write_bytes(png(1))
    outcome = loop.run(lookalike.indexer.upsert("file", Entry(path.as_uri())))
    assert outcome.id is not None
    image = loop.run(lookalike.catalog.find(outcome.id))
    assert image is not None
    assert image.title == "Ferien am Meer #1"
    assert loop.run(lookalike.indexer.originals.read(image)) == png(1)
    path.write_bytes(png(2))
    with pytest.raises(NotFound, match="changed"):
        loop.run(lookalike.indexer.originals.read(image))
    path.unlink()
    with pytest.raises(NotFound, match="no longer exists"):
        loop.run(lookalike.indexer.originals.read(image))
    assert loop.run(lookalike.indexer.upsert("file", Entry(path.as_uri()))).status == "failed"


def test_find_files_finds_images_in_folders(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.PNG", "b/d/e.heic", "notes.txt", ".hidden/f.jpg", "b/.g.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = [url.removeprefix(tmp_path.as_uri() + "/") for url in find_files(str(tmp_path))]
    assert found == ["a.jpg", "b/c.PNG", "b/d/e.heic"]


def test_the_name_of_an_upload_has_a_limit(lookalike: Lookalike, loop: Loop) -> None:
    outcome = loop.run(lookalike.indexer.upsert_upload(png(1), title="x" * 1001))
    assert (outcome.status, outcome.url) == ("failed", "x" * 100)
    assert outcome.reason == "The file's name is longer than 1,000 characters."
    assert loop.run(lookalike.indexer.upsert_upload(png(1), title="x" * 1000)).id


def test_uploading_again_restores_a_lost_file(
    lookalike: Lookalike, loop: Loop, settings: Settings
) -> None:
    for status in ("indexed", "unchanged"):
        outcome = loop.run(lookalike.indexer.upsert_upload(png(1), title="a.png"))
        assert outcome.status == status
        assert outcome.id is not None
        image = loop.run(lookalike.catalog.find(outcome.id))
        assert image is not None
        assert loop.run(lookalike.indexer.originals.read(image)) == png(1)
        shutil.rmtree(settings.data_dir / "media")


def test_deleting_an_upload_deletes_row_vector_and_file(
    lookalike: Lookalike, loop: Loop, settings: Settings
) -> None:
    outcome = loop.run(lookalike.indexer.upsert_upload(png(1), title="a.png"))
    assert outcome.id is not None
    image = loop.run(lookalike.catalog.find(outcome.id))
    assert image is not None
    media = settings.data_dir / "media"
    assert [path for path in media.rglob("*") if path.is_file()]
    loop.run(lookalike.indexer.delete([image]))
    assert loop.run(lookalike.catalog.count()) == loop.run(lookalike.vectors.count()) == 0
    assert not [path for path in media.rglob("*") if path.is_file()]


def test_reindex_embeds_with_a_new_encoder_without_fetching(
    settings: Settings, loop: Loop, host: ImageHost, tmp_path: Path
) -> None:
    entries = [Entry(host.add(f"{seed}.png", png(seed))) for seed in range(5)]
    with loop.entered(open_lookalike(settings, announce=lambda _: None)) as first:
        loop.run(first.indexer.upsert_urls(entries))
    host.asked.clear()
    folder = write_clip(tmp_path / "tiny")
    announced: list[str] = []
    changed = settings.model_copy(update={"encoder": str(folder)})
    with loop.entered(open_lookalike(changed, announce=announced.append)) as second:
        assert any("reindex" in line for line in announced)
        assert loop.run(second.vectors.count()) == 0

        async def reindex() -> list[int]:
            return [
                checked async for checked in second.reindexer.run(second.index.spaces.all, batch=2)
            ]

        assert loop.run(reindex()) == [2, 4, 5]
        assert loop.run(second.vectors.count()) == 5
        results = loop.run(
            second.searcher.search(Query([Term(png(3))], limit=1, min_similarity=-1))
        )
        assert results.hits[0].image.url == entries[3].url
        assert loop.run(reindex()) == [2, 4, 5]
        assert second.encoder.images.items == 6
    assert not host.asked


def test_a_restart_loses_nothing(settings: Settings, loop: Loop, host: ImageHost) -> None:
    entries = [Entry(host.url(f"seed/{seed}.png"), title=f"photo {seed}") for seed in range(5)]
    with loop.entered(open_lookalike(settings, announce=lambda _: None)) as first:
        loop.run(first.indexer.upsert_urls(entries))
        before = loop.run(first.catalog.newest(limit=10))
        upload = loop.run(first.indexer.upsert_upload(png(9), title="upload.png"))
    with loop.entered(open_lookalike(settings, announce=lambda _: None)) as second:
        assert loop.run(second.catalog.newest(limit=10))[1:] == before
        for seed in range(5):
            search = second.searcher.search(Query([Term(altered(png(seed)))], limit=3))
            assert [hit.image.url for hit in loop.run(search).hits] == [entries[seed].url]
        assert upload.id is not None
        image = loop.run(second.catalog.find(upload.id))
        assert image is not None
        assert loop.run(second.indexer.originals.read(image)) == png(9)


def test_reindex_adds_facets_to_images_of_an_older_version(
    lookalike: Lookalike, loop: Loop, host: ImageHost, settings: Settings
) -> None:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(3)]
    loop.run(lookalike.indexer.upsert_urls(entries))
    vectors, table = lookalike.vectors, lookalike.vectors.table.name
    before = loop.run(vectors.fetch([entry.id for entry in entries]))
    colours = loop.run(lookalike.catalog.find(entries[0].id)).colours
    assert colours

    async def as_before_filters() -> None:
        async with lookalike.database.begin() as connection:
            await connection.execute(text(f"UPDATE {table} SET labels = NULL, width = NULL"))
            await connection.execute(text("UPDATE images SET colours = '[]'"))
            # One vector belongs to bytes that have changed since.
            await connection.execute(
                text(f"""UPDATE {table} SET metadata_ = jsonb_set(metadata_, '{{sha256}}', '"x"'),
                embedding = (SELECT embedding FROM {table} WHERE node_id = '{entries[1].id}')
                WHERE node_id = '{entries[2].id}'""")
            )

    loop.run(as_before_filters())
    announced: list[str] = []
    with loop.entered(open_lookalike(settings, announce=announced.append)) as later:
        assert any("filters do not find them" in line for line in announced)
        query = Query([Term(png(9))], filters=Filters(formats=["PNG"]), min_similarity=-1)
        assert loop.run(later.searcher.search(query)).hits == []

        async def reindex() -> None:
            async for _ in later.reindexer.run(later.index.spaces.all):
                pass

        loop.run(reindex())
        assert len(loop.run(later.searcher.search(query)).hits) == 3
        after = loop.run(vectors.fetch([entry.id for entry in entries]))
        assert all((after[e.id] == before[e.id]).all() for e in entries[:2])
        assert float(after[entries[2].id] @ before[entries[2].id]) > 0.99
        image = loop.run(later.catalog.find(entries[0].id))
        assert image is not None
        assert {colour["name"] for colour in image.colours} == {c["name"] for c in colours}
