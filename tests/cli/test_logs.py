"""The server and the worker log to stderr, as the settings say."""

import json
from pathlib import Path

import pytest

from tests.process import lookalike as run
from tests.running import running, serving


def test_the_server_logs_json(database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    with serving(**settings) as (client, server):
        client.get("/api/jobs/7", headers={"x-request-id": "a1"})
        server.wait_for("a1")
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    [line] = [line for line in lines if line["message"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/jobs/{id:job}", 404)
    assert (line["request_id"], line["problem"]) == ("a1", "not-found")
    # What the command says to whoever starts it stays as it is.
    assert any(line.startswith("Lookalike is running at") for line in server.lines)


def test_the_worker_logs_text(database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "INFO"}
    (tmp_path / "a.png").write_bytes(b"no image")
    with running("worker", **settings) as worker:
        worker.wait_for("Working on jobs")
        done = run("index", "--async", str(tmp_path / "a.png"), ENCODER="builtin", **settings)
        assert done.returncode == 0
        worker.wait_for(r"INFO app\.jobs\.worker item failed job=\d+ item=0 url=\S+/a\.png")
        worker.wait_for(r"INFO app\.jobs\.jobs job ended job=\d+ .*items=1 failed=1")
        assert worker.stop() == 0


@pytest.mark.parametrize(("name", "value"), [("LOG_LEVEL", "loud"), ("LOG_FORMAT", "xml")])
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    done = run("serve", **{name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"lookalike: {name}: ")
    assert len(done.stderr.splitlines()) == 1
