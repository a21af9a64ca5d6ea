"""An index of version 0.1, as a dump of its database has it, is migrated with all that is in it."""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from PIL import Image
from procrastinate.schema import SchemaManager
from psycopg.rows import dict_row
from pydantic import SecretStr

from app.encoding.encoder import Encoder
from app.search.query import Query, Term
from app.settings import Settings
from app.store.database import MIGRATIONS, newest_revision, open_database
from app.store.filters import Filters
from app.store.listing import passing
from tests.conftest import opened
from tests.live import Loop

DUMP = Path(__file__).parent / "dumps" / "version-0.1.sql"
BEACH, UPLOAD, BOAT = (
    UUID("b88ac043-6bfd-5f78-81a1-78f785fe6e12"),
    UUID("920e7ec5-a7e3-51f4-8558-7855f824c16c"),
    UUID("4bf7434f-2725-57a5-9c34-a36f1ecb9cbf"),
)


@pytest.fixture
def dumped(new_database: Callable[..., str]) -> str:
    """The URL of a database that is as version 0.1 left it."""
    url = new_database("template0")
    with psycopg.connect(url) as connection:
        connection.execute(DUMP.read_text("utf-8").encode())
    return url


def rows(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def test_version_0_1_is_migrated_with_its_rows(settings: Settings, dumped: str) -> None:
    tables = {
        "images": "id",
        "encoders": "name",
        "queries": "id",
        "jobs": "id",
        "job_items": "job_id, position",
        "job_counts": "job_id, state",
        "procrastinate_jobs": "id",
        "data_builtin_1420c79e": "id",
    }
    queries = {name: f"SELECT * FROM {name} ORDER BY {order}" for name, order in tables.items()}
    before = {name: rows(dumped, query) for name, query in queries.items()}
    assert [len(found) for found in before.values()] == [3, 1, 1, 2, 3, 4, 1, 3]

    open_database(settings.model_copy(update={"database_url": SecretStr(dumped)})).close_set_up()

    assert rows(dumped, "SELECT * FROM alembic_version") == [{"version_num": newest_revision()}]
    # Words are split in another way since, and users and passwords stand beside URLs.
    changed = {"images": {"words"}, "job_items": {"url", "credentials"}}
    for name, query in queries.items():
        after = rows(dumped, query)
        for old, new in zip(before[name], after, strict=True):
            kept = old.keys() - changed.get(name, set())
            assert {key: new[key] for key in kept} == {key: old[key] for key in kept}
    [waiting] = rows(dumped, "SELECT * FROM job_items WHERE state = 'waiting'")
    assert (waiting["url"], waiting["credentials"]) == (
        "http://127.0.0.1:9/waiting.png",
        "me:hunter2",
    )


def test_an_index_of_version_0_1_is_searched(
    settings: Settings, dumped: str, loop: Loop, encoder: Encoder
) -> None:
    changed = settings.model_copy(update={"database_url": SecretStr(dumped)})
    with opened(changed, loop, encoder) as lookalike:
        image = loop.run(lookalike.catalog.find(BEACH))
        assert image is not None
        assert (image.title, image.tags) == ("A Beach, früh am Morgen", ["sea", "red ball"])
        assert image.metadata == {"sku": "a17", "price": 3.5}
        found = loop.run(lookalike.vectors.worded("fruh ball", limit=9, filters=Filters()))
        assert found == [BEACH]
        query = Query([Term(image=BEACH)], min_similarity=-1)
        assert {hit.image.id for hit in loop.run(lookalike.searcher.search(query)).hits} == {
            UPLOAD,
            BOAT,
        }
        tagged = Filters(tags=["red ball"])
        found = loop.run(passing(lookalike.vectors, tagged, order="newest", limit=9))
        assert [position.id for position in found] == [BEACH]
        sha256, thumbnail = loop.run(lookalike.catalog.thumbnail(BEACH)) or ("", b"")
        assert (len(sha256), Image.open(BytesIO(thumbnail)).size) == (64, (64, 48))


def test_the_installed_queue_has_the_schema_of_the_migrations() -> None:
    """If this fails, add a migration with what Procrastinate changed, and copy its schema."""
    copied = sorted((MIGRATIONS / "procrastinate").glob("schema-*.sql"))[-1]
    assert SchemaManager.get_schema() == copied.read_text("utf-8")


def test_migrations_run_no_code_of_the_queue() -> None:
    for path in (MIGRATIONS / "versions").glob("*.py"):
        assert not re.search(r"^\s*(from|import) procrastinate", path.read_text("utf-8"), re.M)
