"""A vector ends with its image, in whichever encoder's table it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore
from pydantic import SecretStr
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.lookalike import Lookalike, open_lookalike
from app.settings import Settings
from app.store.catalog import EVERYTHING
from app.store.database import open_database
from app.store.encoders import stored_vectors
from app.store.images import Entry
from app.store.vectors import VectorTable
from tests.conftest import opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import png
from tests.store.test_migrations import add_image, migrate


async def embed_missing(lookalike: Lookalike) -> None:
    async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
        pass


def test_deleted_images_do_not_return_with_another_encoder(
    settings: Settings, loop: Loop, encoder: Encoder, host: ImageHost, tmp_path: Path
) -> None:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(6)]
    with opened(settings, loop, encoder) as first:
        loop.run(first.indexer.upsert_urls(entries))
    changed = settings.model_copy(update={"encoder": str(write_clip(tmp_path / "tiny"))})
    with loop.entered(open_lookalike(changed, announce=lambda _: None)) as second:
        loop.run(embed_missing(second))
        gone = loop.run(second.catalog.find_all([entry.id for entry in entries[:3]]))
        loop.run(second.indexer.delete(list(gone.values())))
    with opened(settings, loop, encoder) as first:
        vector = loop.run(first.vectors.fetch([entries[3].id]))[entries[3].id]
        near = loop.run(first.vectors.nearest(vector, limit=10))
        assert {image_id for image_id, _ in near} == {entry.id for entry in entries[3:]}
        # The encoder that is not in use now.
        loop.run(first.indexer.delete_all(EVERYTHING))
        assert loop.run(rows_of(first, second.vectors)) == 0


async def rows_of(lookalike: Lookalike, vectors: VectorTable) -> int:
    async with lookalike.database.begin() as connection:
        return await connection.scalar(text(f"SELECT count(*) FROM {vectors.table.name}")) or 0


def test_a_table_of_llama_index_loses_images_and_nothing_else(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entry = Entry(host.add("a.png", png(1)))
    loop.run(lookalike.indexer.upsert("web", entry))
    stock = PGVectorStore(
        table_name="stock",
        embed_dim=3,
        use_jsonb=True,
        use_halfvec=True,
        engine=lookalike.database.sync_engine,
        async_engine=lookalike.database.engine,
    )
    names = [str(entry.id), "not a UUID"]
    stock.add([TextNode(id_=name, text="said", embedding=[1, 0, 0]) for name in names])
    vectors = VectorTable(lookalike.database, "stock", dimensions=3)
    with lookalike.database.set_up() as connection:
        vectors.set_up(connection)
        assert "data_stock" in {stored.table for stored in stored_vectors(connection)}
    image = loop.run(lookalike.catalog.find(entry.id))
    assert image is not None
    loop.run(lookalike.indexer.delete([image]))
    with lookalike.database.set_up() as connection:
        left = connection.scalars(text("SELECT node_id FROM data_stock")).all()
    assert left == ["not a UUID"]


def test_a_vector_table_that_was_dropped_by_hand_keeps_no_image_from_going(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    loop.run(lookalike.indexer.upsert("web", Entry(host.add("a.png", png(1)))))

    async def drop() -> None:
        async with lookalike.database.begin() as connection:
            await connection.execute(text(f"DROP TABLE {lookalike.vectors.table.name}"))

    loop.run(drop())
    loop.run(lookalike.indexer.delete_all(EVERYTHING))
    assert loop.run(lookalike.catalog.count()) == 0


CREATE = """
    CREATE TABLE {} (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ jsonb,
        node_id varchar UNIQUE, embedding halfvec(2), labels text[], taken_at timestamptz)
"""


def test_the_migration_removes_the_vectors_of_images_that_are_gone(
    settings: Settings, new_database: Callable[..., str]
) -> None:
    url = new_database("template1")
    migrate(url, "0006")
    tables = ["data_used_12345678", "data_unfinished_12345678"]
    with psycopg.connect(url, autocommit=True) as connection:
        for table in tables:
            connection.execute(CREATE.format(table).encode())
        connection.execute(
            "INSERT INTO encoders (name, fingerprint, source, dimensions, vector_table) "
            "VALUES ('used', '12345678', 'used', 2, %s)",
            [tables[0]],
        )
        kept: list[UUID] = []
        for number, table in enumerate(tables):
            gone = add_image(connection, f"https://x.example/gone{number}", b"a", table)
            kept.append(add_image(connection, f"https://x.example/kept{number}", b"b", table))
            connection.execute("DELETE FROM images WHERE id = %s", [gone])
            # A node that someone stored through LlamaIndex.
            stored = f"INSERT INTO {table} (node_id, text, metadata_) VALUES ('mine', '', '{{}}')"
            connection.execute(stored.encode())
    open_database(settings.model_copy(update={"database_url": SecretStr(url)})).close_set_up()
    with psycopg.connect(url, autocommit=True) as connection:
        for table, image_id in zip(tables, kept, strict=True):
            assert nodes(connection, table) == {str(image_id), "mine"}
        connection.execute("DELETE FROM images")
        for table in tables:
            assert nodes(connection, table) == {"mine"}


def nodes(connection: Any, table: str) -> set[str]:
    return {node for (node,) in connection.execute(f"SELECT node_id FROM {table}")}
