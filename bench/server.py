"""A server with data of its own, as a process, for measurements that load it or end it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 120
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


class Process:
    """`lookalike serve` or `lookalike worker`; the end of its log is kept."""

    def __init__(self, *arguments: str, **settings: str) -> None:
        given = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            # Nothing of the caller's settings, nor of an .env in this folder.
            env={**given, "ENCODER": "builtin", "LOG_LEVEL": "warning", **settings},
            cwd=settings["DATA_DIR"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: deque[str] = deque(maxlen=500)
        self._said = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of the first line that has one; fails if there is none."""

        def found() -> re.Match[str] | None:
            return next((m for line in self.log if (m := re.search(pattern, line))), None)

        with self._said:
            self._said.wait_for(lambda: found() or self._process.poll() is not None, START_S)
            match = found()
        if match is None:
            raise SystemExit("\n".join(["It did not start:", *self.log]))
        return match

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as an operator does; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def resident_mb(self) -> float:
        """Return the memory that it occupies, without its database."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1000

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._said:
                self.log.append(line.rstrip())
                self._said.notify_all()
        self._process.wait()
        with self._said:
            self._said.notify_all()


def serve(data: Path, *, port: int = 0, **settings: str) -> tuple[Process, str]:
    """Start a server; return it with its URL."""
    process = Process(
        "serve",
        "--port",
        str(port),
        DATA_DIR=str(data),
        **{"FETCH_ALLOW": "127.0.0.1", "RETRY_S": "0.2", "WORKER_TIMEOUT_S": "3", **settings},
    )
    return process, process.wait_for(r"running at (http://\S+)")[1].replace(
        "localhost", "127.0.0.1"
    )


@contextmanager
def client_of(url: str) -> Generator[httpx.Client]:
    """A client without the environment's proxies."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False) as client:  # noqa: S501 - loopback
        yield client


def async_client_of(url: str) -> httpx.AsyncClient:
    """The same for an event loop, with any number of connections."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(
        base_url=url,
        timeout=60,
        trust_env=False,
        verify=False,  # noqa: S501 - loopback
        limits=limits,
    )


def show(rows: list[tuple[object, ...]], *headings: str) -> None:
    """Print a table, as Markdown."""
    cells = [headings, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    rule = tuple("-" * width for width in widths)
    for row in (headings, rule, *cells[1:]):
        line = " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {line} |")
