"""What an older version left is understood by this one."""

import json
from collections.abc import Callable, Generator
from contextlib import closing
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from app.encoding.encoder import Encoder
from app.encoding.loading import Encoders
from app.lookalike import open_lookalike
from app.settings import Settings
from app.store.database import MIGRATIONS, Database
from app.store.encoders import record_encoder
from app.store.vectors import VectorTable
from app.web.server import create_app
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png

SECRET = "hunter2"


def migrate(url: str, revision: str) -> None:
    """Bring a database to an older revision than the newest."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes.update(connection=connection, announce=lambda _: None)
        command.upgrade(config, revision)
    engine.dispose()


@pytest.fixture
def old(new_database: Callable[..., str]) -> str:
    """The URL of a database as the version before the migration 0005 left it."""
    url = new_database("template1")
    migrate(url, "0003")
    return url


def add_image(connection: Any, url: str, data: bytes, table: str) -> UUID:
    image_id = uuid5(NAMESPACE_URL, url)
    connection.execute(
        """
        INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, title,
                            description, tags, thumbnail)
        VALUES (%s, %s, %s, 0, %s, 256, 256, 'PNG', '{}', '', '', '{}', %s)
        """,
        [image_id, url, sha256(data).hexdigest(), len(data), data],
    )
    said = {"url": url, "sha256": sha256(data).hexdigest()}
    node = {"id_": str(image_id), "metadata": said}
    connection.execute(
        f"INSERT INTO {table} (node_id, text, metadata_, embedding) "
        "VALUES (%s, '', %s, array_fill(0.1, ARRAY[%s])::halfvec)",
        [
            str(image_id),
            Jsonb({**said, "_node_content": json.dumps(node)}),
            connection.execute(
                "SELECT atttypmod FROM pg_attribute WHERE attname = 'embedding' "
                "AND attrelid = %s::regclass",
                [table],
            ).fetchone()[0],
        ],
    )
    return image_id


class Old:
    """An index of an older version, with passwords in its URLs."""

    def __init__(self, url: str, encoder: Encoder, host: ImageHost) -> None:
        host.add("a.png", png(1))
        host.add("b.png", png(2))
        self.bare = host.url("locked/a.png")
        self.named = self.bare.replace("//", f"//me:{SECRET}@")
        self.waiting = host.url("locked/b.png").replace("//", f"//me:{SECRET}@")
        database = Database(make_url(url).set(drivername="postgresql+psycopg"))
        vectors = VectorTable.for_encoder(database, encoder)
        table = vectors.table.name
        with database.set_up() as connection:
            vectors.table.create(connection)
            record_encoder(
                connection,
                source=encoder.source,
                name=encoder.model.name,
                fingerprint=encoder.model.fingerprint,
                dimensions=encoder.dimensions,
                vector_table=table,
            )
        database.sync_engine.dispose()
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            self.id = add_image(connection, self.named, png(1), table)
            self.other = add_image(connection, host.url("seed/9.png"), png(9), table)
            self.job = connection.execute(
                "INSERT INTO jobs (title) VALUES (%s) RETURNING id", [self.named]
            ).fetchone()[0]  # pyright: ignore[reportOptionalSubscript]
            items = [
                ("web", self.named, "indexed"),
                ("web", self.waiting, "waiting"),
                ("web", self.named.replace("me:", "you:"), "failed"),
                ("refresh", self.named, "waiting"),
            ]
            for position, (source, named, state) in enumerate(items):
                connection.execute(
                    "INSERT INTO job_items (job_id, position, source, url, state, ended_at) "
                    "VALUES (%s, %s, %s, %s, %s, CASE WHEN %s <> 'waiting' THEN now() END)",
                    [self.job, position, source, named, state, state],
                )


@pytest.fixture
def left(old: str, encoder: Encoder, host: ImageHost) -> Old:
    return Old(old, encoder, host)


@pytest.fixture
def server(
    settings: Settings, old: str, left: Old, loop: Loop, encoder: Encoder
) -> Generator[Server]:
    changed = settings.model_copy(update={"database_url": SecretStr(old)})
    with closing(Encoder(encoder.model, source=encoder.source)) as own:
        opened = open_lookalike(changed, announce=lambda _: None, encoders=Encoders.single(own))
        with (
            loop.entered(opened) as lookalike,
            loop.serving(create_app(lookalike)) as address,
            client_of(address) as client,
        ):
            yield Server(address, client, lookalike)


def test_passwords_leave_the_urls_and_ids_stay(
    server: Server, left: Old, old: str, host: ImageHost
) -> None:
    image = server.client.get(f"/api/images/{left.id}").json()
    assert image["url"] == left.bare
    assert server.client.get(f"/api/jobs/{left.job}").json()["title"] == left.bare
    items = server.client.get(f"/api/jobs/{left.job}/items").json()["items"]
    assert SECRET not in json.dumps(items)
    assert (items[0]["url"], items[0]["id"]) == (left.bare, str(left.id))
    with closing(psycopg.connect(old)) as connection:
        table = server.lookalike.vectors.table.name
        for said in ("images", "jobs", table):
            texts = connection.execute(f"SELECT to_jsonb(t)::text FROM {said} t").fetchall()
            assert texts
            assert SECRET not in str(texts)
        kept = connection.execute(
            "SELECT credentials FROM job_items WHERE job_id = %s ORDER BY position", [left.job]
        ).fetchall()
        assert [row[0] for row in kept] == ["", f"me:{SECRET}", "", ""]
        [node] = connection.execute(
            f"SELECT metadata_ FROM {table} WHERE node_id = %s", [str(left.id)]
        ).fetchall()
        assert json.loads(node[0]["_node_content"])["metadata"]["url"] == left.bare


def test_an_image_is_found_by_the_url_that_it_has_now(
    server: Server, left: Old, loop: Loop, host: ImageHost
) -> None:
    [outcome] = server.upsert([left.named])
    assert (outcome["id"], outcome["url"]) == (str(left.id), left.bare)
    assert outcome["status"] != "failed"
    [again] = server.upsert([left.named])
    assert (again["status"], again["id"]) == ("unchanged", str(left.id))
    # Someone else's password, and none at all.
    host.password = "you:too"
    [outcome] = server.upsert([left.named.replace(f"me:{SECRET}", "you:too")])
    assert (outcome["status"], outcome["id"]) == ("unchanged", str(left.id))
    [outcome] = server.upsert([left.bare])
    assert outcome["status"] == "failed"
    assert server.client.get("/api/images").json()["total"] == 2
    # What is said of it, and a new picture, go to the same row and vector.
    answer = server.client.patch(f"/api/images/{left.id}", json={"title": "Mine"})
    assert (answer.status_code, answer.json()["title"]) == (200, "Mine")
    host.add("a.png", png(5))
    [outcome] = server.upsert([left.named.replace(f"me:{SECRET}", "you:too")])
    assert (outcome["status"], outcome["id"]) == ("updated", str(left.id))
    hit = server.search(png(5))[0]
    assert (hit["id"], hit["title"], hit["match"]) == (str(left.id), "Mine", "exact")
    assert loop.run(server.lookalike.vectors.count()) == 2
    # Its server says that it is gone.
    del host.pictures["a.png"]
    server.upsert([left.named.replace(f"me:{SECRET}", "you:too")])
    assert server.client.get(f"/api/images/{left.id}").json()["gone_at"] is not None


def test_a_refresh_leaves_out_what_it_cannot_ask(server: Server, left: Old) -> None:
    job = server.client.post("/api/refresh").json()
    assert server.done(job["id"])["failed"] == 1
    [item] = server.client.get(f"/api/jobs/{job['id']}/items?state=failed").json()["items"]
    assert (item["url"], "not kept" in item["reason"]) == (left.bare, True)


def test_waiting_items_are_fetched_with_what_they_had(
    settings: Settings, old: str, left: Old, loop: Loop, encoder: Encoder
) -> None:
    async def run() -> list[Any]:
        changed = settings.model_copy(update={"database_url": SecretStr(old), "worker": False})
        with closing(Encoder(encoder.model, source=encoder.source)) as own:
            async with open_lookalike(
                changed, announce=lambda _: None, encoders=Encoders.single(own)
            ) as lookalike:
                for item in await lookalike.job_items.due(left.job, 0):
                    outcome = await lookalike.indexer.upsert(item.source, item.entry, item=item)
                    if outcome.problem:
                        await lookalike.job_items.fail(item, outcome.problem.detail)
                return await lookalike.job_items.items(left.job, state=None, after=-1, limit=9)

    items = loop.run(run())
    assert [item.state for item in items] == ["indexed", "indexed", "failed", "failed"]
    assert {item.entry.credentials for item in items} == {""}
    assert items[1].image_id == uuid5(NAMESPACE_URL, items[1].entry.url)
    assert items[3].reason is not None
