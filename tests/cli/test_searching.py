"""`lookalike search`: what it prints, and that a running server does the work."""

import json
import re
from pathlib import Path

import click
import pytest

from app.store.server_file import NAME
from tests.cli.test_main import Run, photos, run
from tests.running import serving
from tests.samples import altered, png

__all__ = ["photos", "run"]


@pytest.fixture
def query(tmp_path: Path) -> Path:
    path = tmp_path / "query.jpg"
    path.write_bytes(altered(png(2)))
    return path


LINE = re.compile(r" *(\d+)  (\w*) +(-?\d\.\d{3}|words|  -  )  +(\d+ x \d+)  (\(.*\)  )?(\S+)")


def lines_of(text: str) -> list[tuple[str, ...]]:
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    return [line.groups() for line in found if line is not None] if all(found) else [(text,)]


def test_a_line_has_rank_match_similarity_and_path(run: Run, photos: Path, query: Path) -> None:
    run("index", str(photos))
    copy, *others = lines_of(run("search", str(query), "--min-similarity", "-1").stdout)
    assert copy[:2] == ("1", "copy")
    assert float(copy[2]) > 0.9
    assert copy[5] == str(photos / "more" / "c.png")
    assert [line[:2] for line in others] == [("2", "similar"), ("3", "similar")]
    assert len(lines_of(run("search", str(query), "--min-similarity", "-1", "-n", "2").stdout)) == 2


def test_filters_alone_list_what_passes(run: Run, photos: Path) -> None:
    run("index", str(photos))
    listed = lines_of(run("search", "--formats", "PNG", "--sort", "oldest").stdout)
    assert [line[:3] for line in listed] == [(str(n), "", "  -  ") for n in (1, 2, 3)]
    assert run("search", "--formats", "gif").returncode == 3


def test_several_pictures_are_one_query(run: Run, photos: Path) -> None:
    files = [str(photos / "a.png"), str(photos / "b.png")]
    done = run("search", *files)
    assert done.returncode == 2
    assert f"lookalike search '{files[0]} + {files[1]}'" in done.stderr
    assert "lookalike search 'red boat'" in run("search", "red", "boat").stderr


@pytest.mark.parametrize(("protocol", "start"), [("kitty", "\x1b_G"), ("sixel", "\x1bPq")])
def test_thumbnails(run: Run, photos: Path, query: Path, protocol: str, start: str) -> None:
    run("index", str(photos))
    shown = run("search", str(query), "--thumbnails", protocol).stdout
    assert shown.startswith(start)
    assert shown.splitlines()[-1].endswith("c.png")


def test_the_first_result_is_opened(
    run: Run, photos: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    run("index", str(photos))
    run("search", str(query), "--open")
    assert opened == [str(photos / "more" / "c.png")]


def test_a_running_server_of_the_same_data_does_the_work(
    run: Run, photos: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", str(photos))
    commands = [
        ["search", str(query)],
        ["search", str(query), "--min-similarity", "-1", "--json"],
        ["search", str(query), "--crop", "0,0,1,0.9", "--tags", "none"],
        ["search", "--formats", "png", "--json"],
        ["search", "c", "--json"],
        # Nothing is similar enough.
        ["search", str(photos / "a.png"), "--min-similarity", "1", "--match", "exact"],
    ]
    here = [run(*command) for command in commands]
    settings = {**run.environment, "READ_ACCESS": "key", "VERIFY_MS": "30000"}
    with serving(**{name: v for name, v in settings.items() if name != "PORT"}) as (client, server):
        there = [run(*command) for command in commands]
        theirs = 'key="command line"'
        with server.said:
            assert server.said.wait_for(
                lambda: sum(theirs in line for line in server.lines) >= len(commands), timeout=60
            )
        # It is another one's server, then.
        assert run("search", str(query), MIN_SIMILARITY="0.8").stdout == here[0].stdout
        assert client.get("/api/stats").status_code == 401
        given = json.loads((Path(run.environment["DATA_DIR"]) / NAME).read_text())
        access = {"Authorization": f"Bearer {given['secret']}"}
        assert client.get("/api/stats", headers=access).status_code == 200
        delete = client.delete("/api/images?q=a", headers=access)
        assert (delete.status_code, delete.json()["type"]) == (403, "/docs#scope-missing")
        sum_of_two = run("search", f"{query} + {photos / 'a.png'}", "--json")
        assert len(json.loads(sum_of_two.stdout)) == 3
        wrong = run("search", "--formats", "png", "--min-similarity", "0.5")
        assert (wrong.returncode, "min_similarity" in wrong.stderr) == (1, True)
    for first, second in zip(here, there, strict=True):
        assert (first.returncode, first.stdout) == (second.returncode, second.stdout)


def test_export_import_and_reindex_say_what_they_did(
    run: Run, photos: Path, tmp_path: Path, new_database: object
) -> None:
    run("index", str(photos))
    file = tmp_path / "index.parquet"
    assert f"Exported 3 images with their vectors to {file} (" in run("export", str(file)).stderr
    said = run("import", str(file)).stderr
    assert f"Imported 3 images from {file}, 3 of them with their vectors; 0 were " in said
    assert "The index has 3 now." in said
    said = run("reindex").stderr
    assert "Looked at 3 images." in said
    assert "Embedded 0 with builtin: 3 have vectors now, 3 had before." in said
