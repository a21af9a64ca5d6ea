"""Vectors whose index is in Milvus, with the server that the package `milvus` carries."""

from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from app.store import near_urls as near_urls_module
from app.store import nearest as nearest_module
from app.store import vectors as vectors_module
from app.store.database import Database, open_database
from app.store.filters import NO_FILTERS, Filters
from app.store.index_kinds import rebuild_index
from app.store.milvus import searching
from app.store.milvus.client import Milvus
from tests.conftest import databases, settings_of
from tests.milvus_server import MilvusServer
from tests.store.milvus_tables import LIMIT, SHARES, Tabled, made, row

pytestmark = pytest.mark.slow

ROWS, QUERIES = 20_000, 50
VECTORS = made(0, ROWS).astype(np.float16).astype(np.float32)
TAGGED = {share: np.random.default_rng(9).random(ROWS) * 100 < share for share in SHARES}


def rows(places: range) -> list[Any]:
    return [
        row(place, VECTORS[place], [f"p{s}" for s in SHARES if TAGGED[s][place]])
        for place in places
    ]


@pytest.fixture(scope="session")
def server() -> Generator[MilvusServer]:
    with TemporaryDirectory(prefix="milvus-") as folder:
        server = MilvusServer(Path(folder))
        server.start()
        yield server
        server.close()


@pytest.fixture(scope="session")
def milvus(server: MilvusServer) -> Generator[Milvus]:
    milvus = Milvus(server.url)
    yield milvus
    milvus.close()


@pytest.fixture(scope="module")
def database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Database]:
    with databases(postgres) as make:
        yield open_database(settings_of(make(), tmp_path_factory.mktemp("milvus")))


@pytest.fixture(scope="module")
def filled(database: Database, milvus: Milvus) -> Tabled:
    """Rows that were indexed in Postgres, moved to Milvus."""
    filled = Tabled.of(database, milvus, "filled", wanted="halfvec")
    for first in range(0, ROWS, 5000):
        filled.write(rows(range(first, first + 5000)))
    filled.analyse()

    async def rebuild() -> list[float]:
        return [share async for share in rebuild_index(filled.vectors, "milvus")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.store.index_kinds.GRACE_S", 0)
        shares = filled.run(rebuild)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return filled


@pytest.fixture(params=[False, True], ids=["as it decides", "always Milvus"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether Milvus is asked even where few rows pass."""
    if request.param:
        monkeypatch.setattr(searching, "ROWS_PER_CANDIDATE", 0)
        for module in (nearest_module, near_urls_module, vectors_module, searching):
            monkeypatch.setattr(module, "most_of_small", lambda _: 0)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("share", SHARES)
def test_what_milvus_brings_is_what_comparing_each_row_brings(filled: Tabled, share: float) -> None:
    filters = NO_FILTERS if share == 100 else Filters(tags=[f"p{share}"])
    found = expected = 0
    for query in made(1, QUERIES):
        right = filled.right(query, filters)
        found += len(set(right) & set(filled.nearest(query, filters=filters)))
        expected += len(right)
    assert expected >= QUERIES * min(LIMIT, ROWS * share / 100 / 2)
    assert found / expected >= 0.99
