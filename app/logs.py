"""Log lines for operators: text or JSON, one line per event, whatever it quotes.

An event is a constant sentence and named values:

    logger.info("job created", extra=fields(job=3, items=64))

Lines that belong to a request bear its id.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the current task answers, None in every other task."""

LONGEST_VALUE = 1000

# Whatever ends a line, moves the cursor, reorders text or cannot be written as UTF-8.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_PLAIN = re.compile(r'[^\s"=]+')


def set_up_logs(*, level: str, form: Literal["text", "json"]) -> None:
    """Write this process's log to stderr: our own events from `level` on, others' warnings.

    Other libraries stay at warnings, as their lower levels write whole URLs and statements.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    logging.getLogger("app").setLevel(number)
    logging.captureWarnings(capture=True)


def fields(**values: object) -> dict[str, Any]:
    """Return the `extra` of a log call with named values; those that are None are left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class TextLines(logging.Formatter):
    """Time, level, logger, sentence and `name=value` pairs; a traceback follows, set off by bars.

    No line of a traceback can be mistaken for an event, as each begins with a bar.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of one event."""
        values = [f"{name}={_quoted(value)}" for name, value in _values(record).items()]
        sentence = _shown(record.getMessage())
        line = " ".join([_time(record), record.levelname, record.name, sentence, *values])
        bars = [f"  | {_escaped(part)}" for part in _traceback(record).splitlines()]
        return "\n".join([line, *bars])


class JsonLines(logging.Formatter):
    """One JSON object per event: time, level, logger, message, the values, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one event."""
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _values(record).items():
            document[name] = value if isinstance(value, int | float) else _cut(str(value))
        if traceback := _traceback(record):
            document["traceback"] = traceback
        return json.dumps(document)


def _values(record: logging.LogRecord) -> Mapping[str, object]:
    values: dict[str, object] = getattr(record, "fields", {})
    request_id = REQUEST_ID.get()
    return values if request_id is None else {**values, "request_id": request_id}


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _quoted(value: object) -> str:
    text = _cut(str(value))
    return _escaped(text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False))


def _shown(text: str) -> str:
    return _escaped(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)
