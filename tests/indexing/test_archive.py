"""Export and import, to another server and to another encoder."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from app.indexing.archive import Archive, count_images
from app.lookalike import Lookalike, open_lookalike
from app.problems import InvalidRequest
from app.search.query import Query, Term
from app.settings import Settings
from app.store.database import Database
from app.store.hnsw import is_worth_building
from app.store.vectors import VectorTable
from tests.conftest import Server
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import png


def archive_of(lookalike: Lookalike) -> Archive:
    return Archive(lookalike.database, lookalike.catalog, lookalike.index.spaces)


async def moved(settings: Settings, file: Path) -> tuple[list[tuple[str, str]], int, int]:
    """Import a file; return the (URL, title) pairs, and the numbers of vectors and embeddings."""
    async with open_lookalike(settings, announce=lambda _: None) as lookalike:
        images = vectors = 0
        archive = archive_of(lookalike)
        async for read in archive.read(file):
            images, vectors = read.images, read.vectors
        assert images == count_images(file)
        async for _ in archive.build_index():
            pass
        async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
            pass
        found = await lookalike.searcher.search(Query([Term(png(2))], limit=1, min_similarity=0.99))
        assert [hit.match for hit in found.hits] == ["exact"]
        assert await hnsw_indexes(lookalike.database, lookalike.vectors) == 1
        listed = await lookalike.catalog.newest(limit=10)
        return sorted((i.url, i.title) for i in listed), vectors, lookalike.encoder.images.items


async def hnsw_indexes(database: Database, store: VectorTable) -> int:
    async with database.begin() as connection:
        found = await connection.exec_driver_sql(
            "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%% USING hnsw %%' "
            f"AND tablename = '{store.table.name}'"
        )
        return found.scalar_one()


@pytest.fixture
def exported(server: Server, loop: Loop, tmp_path: Path) -> Path:
    async def write() -> list[int]:
        return [count async for count in archive_of(server.lookalike).write(tmp_path / "i.parquet")]

    files = [("file", (f"{i}.png", png(i))) for i in range(3)]
    assert server.client.post("/api/images", files=files).status_code == 200
    assert loop.run(write()) == [3]
    return tmp_path / "i.parquet"


@pytest.fixture
def elsewhere(settings: Settings, new_database: Callable[..., str], tmp_path: Path) -> Settings:
    url = SecretStr(new_database())
    return settings.model_copy(update={"database_url": url, "data_dir": tmp_path / "elsewhere"})


def test_import_restores_images_with_their_vectors(exported: Path, elsewhere: Settings) -> None:
    images, vectors, embedded = asyncio.run(moved(elsewhere, exported))
    assert sorted(title for _, title in images) == ["0.png", "1.png", "2.png"]
    # Only the query was embedded.
    assert (vectors, embedded) == (3, 1)
    # A second import changes nothing.
    again, vectors, _ = asyncio.run(moved(elsewhere, exported))
    assert (again, vectors) == (images, 3)


def test_import_embeds_images_of_another_encoder_again(
    exported: Path, elsewhere: Settings, tmp_path: Path
) -> None:
    clip = str(write_clip(tmp_path / "clip"))
    images, vectors, embedded = asyncio.run(
        moved(elsewhere.model_copy(update={"encoder": clip}), exported)
    )
    assert (len(images), vectors, embedded) == (3, 0, 4)


def test_a_large_import_builds_the_vector_index_afterwards(
    exported: Path, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.hnsw.MIN_ROWS", 3)
    images, vectors, _ = asyncio.run(moved(elsewhere, exported))
    assert (len(images), vectors) == (3, 3)
    assert is_worth_building(existing=10, coming=3)
    assert not is_worth_building(existing=100, coming=3)


def test_import_refuses_a_file_that_is_not_an_export(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidRequest, match="not a Parquet file"):
        count_images(tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(InvalidRequest, match="not an export"):
        count_images(tmp_path / "b.parquet")


def test_the_old_encoder_is_in_use_until_reindexing_is_complete(
    server: Server, settings: Settings, loop: Loop, tmp_path: Path
) -> None:
    clip = str(write_clip(tmp_path / "clip"))
    server.client.post("/api/images", files=[("file", ("1.png", png(1)))])

    async def chosen() -> str:
        auto = settings.model_copy(update={"encoder": "auto"})
        async with open_lookalike(auto, announce=lambda _: None) as lookalike:
            return lookalike.encoder.source

    async def reindex() -> None:
        new = settings.model_copy(update={"encoder": clip})
        async with open_lookalike(new, announce=lambda _: None, in_use=False) as lookalike:
            async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
                pass
            assert await chosen() == "builtin"
            lookalike.index.use_encoder()

    assert loop.run(chosen()) == "builtin"
    loop.run(reindex())
    assert loop.run(chosen()) == clip
    # The running server keeps its encoder.
    assert len(server.query(png(1))) == 1
