"""Log lines: one per event, whatever it quotes."""

import json
import logging
import sys
from collections.abc import Generator
from io import StringIO

import pytest

from app.logs import REQUEST_ID, JsonLines, TextLines, fields, set_up_logs

HOSTILE = "a\n2026-01-01 INFO forged\r\x1b[2Jb\u2028c\u202ed\x00e\x85f\ud800g"


@pytest.fixture
def quiet() -> Generator[None]:
    """Put the loggers back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("app")
    before = (root.handlers[:], root.level, ours.level)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


def record(message: str, *, failing: bool = False, **values: object) -> logging.LogRecord:
    caught = None
    if failing:
        try:
            raise ValueError(HOSTILE)  # noqa: TRY301 - here is where it is caught
        except ValueError:
            caught = sys.exc_info()
    logger = logging.getLogger("app.some")
    return logger.makeRecord(
        "app.some", logging.INFO, "f", 1, message, (), caught, extra=fields(**values)
    )


def test_an_event_is_one_line_of_text() -> None:
    line = TextLines().format(record("job created", job=3, title="two words", empty="", none=None))
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'INFO app.some job created job=3 title="two words" empty=""'


def test_an_event_is_one_object_of_json() -> None:
    document = json.loads(JsonLines().format(record("job created", job=3, ms=1.5, title="two")))
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "info",
        "logger": "app.some",
        "message": "job created",
        "job": 3,
        "ms": 1.5,
        "title": "two",
    }


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
def test_nothing_that_is_quoted_makes_a_line_of_its_own(formatter: logging.Formatter) -> None:
    line = formatter.format(record(HOSTILE, title=HOSTILE))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode()


def test_a_traceback_cannot_be_taken_for_events() -> None:
    lines = TextLines().format(record("unexpected error", failing=True)).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("  | ") and line.isprintable() for line in lines[1:])
    assert any("ValueError" in line for line in lines)
    document = JsonLines().format(record("unexpected error", failing=True))
    assert len(document.splitlines()) == 1
    assert "ValueError" in json.loads(document)["traceback"]


def test_a_value_of_any_length_is_cut() -> None:
    for formatter in (TextLines(), JsonLines()):
        assert len(formatter.format(record("m" * 9000, title="t" * 9_000_000))) < 12_000


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
def test_lines_of_a_request_bear_its_id(formatter: logging.Formatter) -> None:
    token = REQUEST_ID.set("abc-1")
    line = formatter.format(record("anything"))
    REQUEST_ID.reset(token)
    assert "abc-1" in line
    assert "abc-1" not in formatter.format(record("anything"))


def test_levels(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    set_up_logs(level="info", form="text")
    for name in ("app.web", "httpx"):
        logging.getLogger(name).debug("debug of %s", name)
        logging.getLogger(name).info("info of %s", name)
        logging.getLogger(name).warning("warning of %s", name)
    set_up_logs(level="error", form="text")
    logging.getLogger("app.web").warning("no longer")
    events = [line.split(" ", 3)[3] for line in written.getvalue().splitlines()]
    assert events == ["info of app.web", "warning of app.web", "warning of httpx"]
