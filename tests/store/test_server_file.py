"""Commands find a running server of the same data, and no other."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings, read_settings
from app.store.server_file import NAME, announced, running_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(data_dir=tmp_path / "data", database_url="postgres://host/db")


def test_a_running_server_is_found_and_only_while_it_runs(settings: Settings) -> None:
    assert running_server(settings) is None
    path = settings.data_dir / NAME
    with announced(settings, "http://localhost:1") as secret:
        found = running_server(settings)
        assert found is not None
        assert (found.url, found.secret) == ("http://localhost:1", secret)
        assert path.stat().st_mode & 0o777 == 0o600
        # The database's URL, which may have a password, is in it as a digest only.
        assert "postgres" not in path.read_text()
    assert running_server(settings) is None
    assert not path.exists()


def test_what_a_killed_server_left_is_not_believed(settings: Settings) -> None:
    path = settings.data_dir / NAME
    with announced(settings, "http://localhost:1") as first:
        left = path.read_bytes()
    path.write_bytes(left)
    path.chmod(0o644)
    assert running_server(settings) is None
    with announced(settings, "http://localhost:2") as second:
        assert second != first
        found = running_server(settings)
        assert found is not None
        assert found.url == "http://localhost:2"
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"database_url": "postgres://host/other"},
        {"encoder": "clip"},
        {"min_similarity": 0.5},
        {"fetch_allow": ["10.0.0.0/8"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_server_with_other_results_is_not_used(
    settings: Settings, change: dict[str, Any]
) -> None:
    other = read_settings(
        **{"data_dir": settings.data_dir, "database_url": "postgres://host/db", **change}
    )
    with announced(settings, "http://localhost:1"):
        assert running_server(other) is None


def test_one_server_of_a_folder_is_named(settings: Settings) -> None:
    with announced(settings, "http://localhost:1"):
        with announced(settings, "http://localhost:2") as secret:
            assert secret is None
        found = running_server(settings)
        assert found is not None
        assert found.url == "http://localhost:1"


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    settings = read_settings(data_dir=tmp_path / "data")
    with announced(settings, "http://localhost:1") as secret:
        assert secret is None
    assert running_server(settings) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"url": 1}', "null"])
def test_a_file_that_is_none(settings: Settings, content: str) -> None:
    with announced(settings, "http://localhost:1"):
        path = settings.data_dir / NAME
        assert json.loads(path.read_text())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_TRUNC), "w") as file:
            file.write(content)
        assert running_server(settings) is None
