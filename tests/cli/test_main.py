"""The command line with a real database: in this process, unless the process is the point."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from click.testing import CliRunner

from app.cli.main import cli
from tests.image_host import ImageHost
from tests.onnx_models import write_clip
from tests.samples import altered, png


@dataclass
class Run:
    """Runs commands with these settings."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, **environment: str) -> CompletedProcess[str]:
        done = CliRunner(env={**self.environment, **environment}).invoke(cli, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    return Run(
        {
            "DATABASE_URL": database_url,
            "DATA_DIR": str(tmp_path / "data"),
            "ENCODER": "builtin",
            "COPY_ENCODER": "off",
            # Not the default, which something else may have.
            "PORT": "0",
            "FETCH_ALLOW": "127.0.0.1",
            # Responses that a test holds back do not time out, however slow the machine.
            "FETCH_TIMEOUT_S": "300",
        }
    )


@contextmanager
def working(environment: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    """`lookalike worker`, killed at the end if it still runs."""
    command = [sys.executable, "-m", "app", "worker"]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "more/c.png")):
        (folder / name).write_bytes(png(seed))
    return folder


def test_a_folder_is_indexed_searched_and_counted(run: Run, photos: Path, tmp_path: Path) -> None:
    done = run("index", str(photos))
    assert (done.returncode, done.stdout) == (0, "3 indexed, 0 updated, 0 unchanged, 0 failed\n")
    again = run("index", str(photos))
    assert again.stdout == "0 indexed, 0 updated, 3 unchanged, 0 failed\n"

    query = tmp_path / "query.jpg"
    query.write_bytes(altered(png(2)))
    found = run("search", str(query))
    assert found.returncode == 0
    [line] = found.stdout.splitlines()
    assert line.split()[1] == "copy"
    assert "  (2.0 times larger)  " in line
    assert line.endswith("/photos/more/c.png")
    largest = run("search", str(query), "--match", "copy", "--sort", "biggest", "--thorough")
    assert largest.stdout.splitlines() == [line]

    [hit] = json.loads(run("search", str(query), "--json").stdout)
    assert hit["similarity"] > 0.9
    assert hit["title"] == "c"

    assert "images: 3" in run("stats").stdout
    assert json.loads(run("stats", "--json").stdout)["vectors"] == 3


def test_index_accepts_urls_and_files_and_reports_failures(
    run: Run, photos: Path, host: ImageHost
) -> None:
    sources = [host.url("seed/9.png"), host.url("status/404"), str(photos / "a.png")]
    done = run("index", *sources)
    assert done.returncode == 3
    assert "1 failed" in done.stdout
    assert f"failed: {sources[1]}" in done.stderr
    lines = [json.loads(line) for line in run("index", *sources, "--json").stdout.splitlines()]
    statuses = {line["url"]: line["status"] for line in lines}
    assert statuses[sources[0]] == "unchanged"
    assert statuses[sources[1]] == "failed"


@pytest.mark.parametrize("source", ["no/such/file.png", "notaurl"])
def test_a_meaningless_source_is_refused_before_anything_is_indexed(
    run: Run, photos: Path, source: str
) -> None:
    done = run("index", str(photos), source)
    assert done.returncode == 2
    assert source in done.stderr
    assert "images: 0" in run("stats").stdout


def test_a_folder_without_images_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("index", str(tmp_path / "empty"))
    assert (done.returncode, "No images were found in" in done.stderr) == (2, True)


def test_a_search_without_hits_shows_the_closest_image(
    run: Run, photos: Path, host: ImageHost
) -> None:
    run("index", str(photos))
    done = run("search", host.url("seed/77.png"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "The closest, at" in done.stderr
    assert run("search", host.url("seed/77.png"), "--min-similarity", "-1").returncode == 0


def test_a_missing_image_file_is_not_searched_for_as_text(run: Run) -> None:
    done = run("search", "holiday.jpg")
    assert (done.returncode, "There is no file holiday.jpg" in done.stderr) == (2, True)


def test_text_is_searched_for_as_words_if_the_encoder_embeds_images_only(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    silent = {"ENCODER": str(write_clip(tmp_path / "silent", text=False))}
    # Also a file's name, in quotes, and what is longer than any file's name.
    for text in ("a red cat", '"holiday.jpg"', "a red cat " * 30):
        done = run("search", text, **silent)
        assert (done.returncode, "images only" in done.stderr) == (3, True)
    tiny = {"ENCODER": str(write_clip(tmp_path / "tiny"))}
    run("index", str(photos), **tiny)
    found = run("search", "a red cat", "--limit", "2", **tiny)
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 2)


def test_search_accepts_sums_regions_and_filters(run: Run, photos: Path) -> None:
    run("index", str(photos))
    first, second, *_ = sorted(photos.glob("*.*"))
    done = run("search", f"2:{first} - {second}", "--limit", "1", "--json")
    assert (done.returncode, len(json.loads(done.stdout))) == (0, 1)
    done = run(
        "search", str(first), "--crop", "0,0,0.5,0.5", "--formats", "png", "--formats", "gif"
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        ["a.jpg", "--box", "1,2"],
        ["cat", "--colours", "mauve"],
        ["cat", "--crop", "1"],
        ["cat", "--metadata", "x"],
        ["cat", "--min-width", "wide"],
        ["missing.jpg"],
        [],
    ],
)
def test_an_invalid_search_is_refused_before_anything_is_opened(wrong: list[str]) -> None:
    result = CliRunner().invoke(cli, ["search", *wrong])
    assert result.exit_code == 2, result.output


def test_reindex_changes_the_encoder(run: Run, photos: Path, tmp_path: Path) -> None:
    run("index", str(photos))
    facts = json.loads(run("model", "info", "--json", ENCODER="auto").stdout)
    assert (facts["name"], facts["text"]) == ("builtin", True)
    tiny = {"ENCODER": str(write_clip(tmp_path / "tiny"))}
    stats = run("stats", **tiny)
    assert "reindex" in stats.stderr
    assert run("reindex", **tiny).returncode == 0
    assert "vectors: 3" in run("stats", **tiny).stdout
    # From now on, the new encoder is in use.
    facts = json.loads(run("model", "info", "--json", ENCODER="auto").stdout)
    assert (facts["name"], facts["text"]) == ("tiny", True)


def test_the_vectors_of_an_encoder_that_is_no_longer_used_are_dropped(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    run("index", str(photos))
    [builtin] = [t for t in json.loads(run("stats", "--json").stdout)["tables"] if t["encoder"]]
    assert (builtin["encoder"], builtin["rows"], builtin["in_use"]) == ("builtin", 3, True)
    for name in ("builtin", builtin["name"]):
        refused = run("model", "drop", name)
        assert (refused.returncode, "is the encoder in use" in refused.stderr) == (1, True)

    folder = str(write_clip(tmp_path / "tiny"))
    assert run("reindex", "--encoder", folder).returncode == 0
    # What the settings name is in use, whatever was used last.
    assert run("model", "drop", "builtin").returncode == 1
    stats = run("stats", ENCODER="auto").stdout
    assert f"table {builtin['name']}: 3 rows of builtin, not in use, " in stats
    assert "No vectors of other" in run("model", "drop", "other", ENCODER="auto").stderr

    done = run("model", "drop", "builtin", ENCODER="auto")
    assert (done.returncode, builtin["name"] in done.stderr) == (0, True)
    left = json.loads(run("stats", "--json", ENCODER="auto").stdout)
    assert [(table["name"][:10], table["rows"]) for table in left["tables"]] == [
        ("images", 3),
        ("keypoints", 3),
        ("trash", 0),
        ("data_tiny_", 3),
    ]
    # It can be used again.
    assert run("reindex", "--encoder", "builtin").returncode == 0
    assert json.loads(run("stats", "--json").stdout)["vectors"] == 3


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PORT": "http"}, "PORT"),
        ({"DATABASE_URL": "mysql://host/db"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgres://127.0.0.1:1/db"}, "does not answer"),
        ({"ENCODER": "nothing"}, "ENCODER=nothing"),
        ({"ENCODER": "llamaindex:ViT-B/32"}, "pip install torch"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "stats"])
def test_a_failed_start_prints_one_line_and_exits_with_1(
    run: Run, command: str, environment: dict[str, str], named: str
) -> None:
    done = run(command, **environment)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("lookalike: ")
    assert named in line
    assert "Traceback" not in done.stderr


def test_help_lists_commands_and_exit_codes(run: Run) -> None:
    text = run("--help").stdout
    assert "Exit codes: 0 done, 1 not done" in text
    for command in ("index", "search", "serve", "stats", "model", "reindex"):
        assert command in text


def test_lists_are_indexed_and_folders_updated(run: Run, photos: Path, host: ImageHost) -> None:
    table = photos.parent / "list.csv"
    table.write_text(f"url,title,tags\nphotos/a.png,From a table,x;y\n{host.url('seed/9.png')},,\n")
    assert run("index", str(table)).stdout.startswith("2 indexed")
    done = run("index", str(photos))
    assert done.stdout == "2 indexed, 0 updated, 1 unchanged, 0 failed\n"
    (photos / "a.png").write_bytes(png(50))
    (photos / "b.png").unlink()
    done = run("index", str(photos))
    assert done.stdout == "0 indexed, 1 updated, 1 unchanged, 0 failed\n"
    assert "gone: " in done.stderr
    assert "--prune" in done.stderr
    done = run("index", str(photos), "--prune")
    assert "removed: " in done.stderr
    assert "images: 3" in run("stats").stdout


def test_a_job_is_run_by_a_worker_and_followed(run: Run, photos: Path, host: ImageHost) -> None:
    job = json.loads(run("index", str(photos), host.url("status/404"), "--async", "--json").stdout)
    assert (job["waiting"], job["state"]) == (4, "running")
    number = str(job["id"])
    assert "4 waiting" in run("jobs").stdout
    cancelled = run("jobs", number, "--cancel")
    assert "4 cancelled" in cancelled.stdout
    assert "4 waiting" in run("jobs", number, "--retry").stdout
    with working(run.environment) as worker:
        followed = run("jobs", number)
        assert followed.returncode == 3
        assert "3 indexed" in followed.stdout
        assert "1 failed" in followed.stdout
        refreshed = json.loads(run("refresh", "--json").stdout)
        assert refreshed["total"] == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    assert run("jobs", number, "--delete").returncode == 0
    gone = run("jobs", number)
    assert (gone.returncode, "no such job" in gone.stderr) == (1, True)
    assert run("jobs", "--retry").returncode == 2


def test_ctrl_c_stops_and_the_same_command_continues(run: Run, host: ImageHost) -> None:
    urls = [host.add(f"{i}.png", png(i)) for i in range(6)]
    gated = [f"{url}?gate=1" for url in urls[3:]]
    host.open.clear()
    command = [sys.executable, "-m", "app", "index", *urls[:3], *gated]
    process = subprocess.Popen(
        command,
        env={**os.environ, **run.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Processes that a shell starts in the background ignore Ctrl-C otherwise.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while "images: 3" not in run("stats").stdout:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "3 indexed, 0 updated, 0 unchanged, 0 failed\n"
    assert "Stopped." in err
    assert "Traceback" not in err
    host.open.set()
    assert run("index", *urls[:3], *gated).stdout.startswith("3 indexed, 0 updated, 3 unchanged")


def test_an_index_is_exported_and_imported(
    run: Run, photos: Path, new_database: Callable[..., str], tmp_path: Path
) -> None:
    run("index", str(photos))
    file = tmp_path / "index.parquet"
    assert run("export", str(file)).returncode == 0
    other = {"DATABASE_URL": new_database()}
    done = run("import", str(file), **other)
    assert (done.returncode, "3 of them with their vectors" in done.stderr) == (0, True)
    assert "vectors: 3" in run("stats", **other).stdout
    (tmp_path / "no.parquet").write_text("no")
    assert run("import", str(tmp_path / "no.parquet")).returncode == 1


def test_the_exit_code_says_whether_an_image_was_found(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    both = {"ENCODER": str(write_clip(tmp_path / "tiny")), "COPY_ENCODER": "builtin"}
    assert run("index", str(photos), **both).returncode == 0
    (tmp_path / "copy.jpg").write_bytes(altered(png(1)))
    (tmp_path / "other.png").write_bytes(png(77))
    assert run("search", str(tmp_path / "copy.jpg"), **both).returncode == 0
    # Something always is nearest.
    other = run("search", str(tmp_path / "other.png"), **both)
    assert (other.returncode, len(other.stdout.splitlines())) == (3, 3)
    assert "None of these is proved to be the same image" in other.stderr
    with_limit = run("search", str(tmp_path / "other.png"), "--min-similarity", "-1", **both)
    assert (with_limit.returncode, len(with_limit.stdout.splitlines())) == (0, 3)
    assert run("search", str(tmp_path / "other.png"), "--match", "copy", **both).returncode == 3
    assert run("search", "a red cat", **both).returncode == 0
