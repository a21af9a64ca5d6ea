"""`lookalike vectors rebuild`, between a search before and one after."""

from pathlib import Path

import psycopg
import pytest

from app.store import index_kinds
from tests.cli.test_main import Run, run
from tests.samples import png

__all__ = ["run"]


def hnsw_indexes(database_url: str) -> list[str]:
    query = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%' ORDER BY 1"
    with psycopg.connect(database_url) as connection:
        names = [name for (name,) in connection.execute(query) if "builtin" in name]
    return [name.split("_")[-3] for name in names]


def test_an_index_is_made_of_the_kind_that_is_wanted(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_kinds, "GRACE_S", 0)
    Path("one.png").write_bytes(png(1))
    assert run("index", "one.png").returncode == 0
    assert hnsw_indexes(database_url) == ["halfvec"]

    told = run("search", "one.png", VECTOR_INDEX="bit")
    assert told.returncode == 0
    assert "still of the kind halfvec: `lookalike vectors rebuild`" in told.stderr
    assert hnsw_indexes(database_url) == ["halfvec"]

    done = run("vectors", "rebuild", VECTOR_INDEX="bit")
    assert done.returncode == 0, done.stderr
    assert "of the kind bit now" in done.stderr
    assert hnsw_indexes(database_url) == ["bit"]

    # What there is stays, and is searched.
    found = run("search", "one.png")
    assert "one.png" in found.stdout
    assert "kind" not in found.stderr
    assert "of the kind bit already" in run("vectors", "rebuild", VECTOR_INDEX="bit").stderr

    # A small index of whole vectors fits the memory.
    assert "of the kind halfvec now" in run("vectors", "rebuild").stderr
    assert hnsw_indexes(database_url) == ["halfvec"]
