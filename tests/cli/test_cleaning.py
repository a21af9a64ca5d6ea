"""`lookalike duplicates`: groups, the image to keep of each, and the others in the trash."""

import json
from pathlib import Path

from tests.cli.test_main import Run, run
from tests.samples import encode, photo

__all__ = ["run"]
SIZE = (480, 360)


def indexed_files(run: Run, folder: Path) -> None:
    """Index two copies of one photo, the larger one last, and a stranger."""
    image = photo(3, SIZE)
    small = encode(image.resize((240, 180)))
    for name, data in (("a.png", small), ("b.png", encode(image)), ("c.png", encode(photo(5)))):
        (folder / name).write_bytes(data)
        assert run("index", str(folder / name)).returncode == 0


def test_groups_are_listed_with_the_image_to_keep(run: Run, tmp_path: Path) -> None:
    indexed_files(run, tmp_path)
    done = run("duplicates")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert done.returncode == 0
    assert len(lines) == 2
    [kept] = [line for line in lines if line.startswith("keep")]
    assert "480 x 360" in kept
    assert "b.png" in kept
    assert "times" in done.stdout
    oldest = json.loads(run("duplicates", "--keep", "oldest", "--json").stdout)
    [group] = oldest["groups"]
    names = {image["id"]: image["url"].rpartition("/")[2] for image in group["images"]}
    assert (names[group["keep"]], oldest["trashed"]) == ("a.png", 0)
    assert [len(image["differences"]) for image in group["images"]] == [0, 1]
    assert all(image["taken_at"] is None for image in group["images"])


def test_the_others_go_to_the_trash_and_come_back(run: Run, tmp_path: Path) -> None:
    indexed_files(run, tmp_path)
    # Not asked by a script, which has no one to answer, and nothing is moved.
    assert run("duplicates", "--delete").returncode == 1
    assert run("duplicates", "--delete", "--json").returncode == 2
    done = run("duplicates", "--delete", "--yes")
    assert "1 moved to the trash" in done.stderr
    assert run("duplicates").returncode == 3
    [trashed] = json.loads(run("trash", "list", "--json").stdout)
    assert trashed["url"].endswith("a.png")
    assert (tmp_path / "a.png").exists()
    assert run("trash", "restore", "--all").returncode == 0
    assert run("duplicates").returncode == 0
