"""`lookalike media`: thumbnails move to files and back, and new ones follow them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.test_main import Run, run
from tests.samples import png

__all__ = ["run"]


def files(folder: Path) -> int:
    return len(list(folder.glob("thumbnails/*/*.jpg")))


def test_thumbnails_move_and_new_ones_follow(run: Run, tmp_path: Path) -> None:
    media = tmp_path / "media"
    where = {"MEDIA_URL": str(media), "THUMBNAILS": "auto"}
    for number in range(2):
        Path(f"{number}.png").write_bytes(png(number))
    assert run("index", "0.png", **where).returncode == 0
    assert files(media) == 0

    moved = run("media", "move", "--to", "media", **where)
    assert moved.returncode == 0, moved.stderr
    assert "Moved 1 thumbnails into MEDIA_URL." in moved.stderr
    assert run("index", "1.png", **where).returncode == 0
    assert files(media) == 2
    assert "Moved 0 thumbnails into MEDIA_URL." in run("media", "move", **where).stderr

    assert run("export", "--no-thumbnails", "bare.parquet", **where).returncode == 0
    assert pq.read_table("bare.parquet")["thumbnail"].null_count == 2
    assert run("export", "whole.parquet", **where).returncode == 0
    assert pq.read_table("whole.parquet")["thumbnail"].null_count == 0

    back = run("media", "move", **{**where, "THUMBNAILS": "database"})
    assert "Moved 2 thumbnails into the database." in back.stderr
    assert files(media) == 0
    assert "Removed 0 thumbnails" in run("media", "clean", **where).stderr


@pytest.mark.parametrize("place", ["nowhere", "bucket"])
def test_they_move_to_one_of_two_places(run: Run, place: str) -> None:
    assert run("media", "move", "--to", place).returncode == 2
