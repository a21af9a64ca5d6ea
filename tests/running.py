"""`lookalike serve` and `lookalike worker` as processes of their own, with their log."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.conftest import client_of


@dataclass
class Running:
    """A process, and what it has written to stderr."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list[str])
    said: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.said:
                self.lines.append(line.rstrip("\n"))
                self.said.notify_all()
        with self.said:
            self.ended = True
            self.said.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches; fails if the process ends before."""

        def found() -> re.Match[str] | None:
            return next((m for line in self.lines if (m := re.search(pattern, line))), None)

        with self.said:
            self.said.wait_for(lambda: found() or self.ended, timeout=120)
            match = found()
        assert match, "\n".join(self.lines)
        return match

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running(*arguments: str, **environment: str) -> Generator[Running]:
    """Run a command, and kill it if it does not stop by itself."""
    given = {"ENCODER": "builtin", "FETCH_ALLOW": "127.0.0.1", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        env={**os.environ, **given},
        stderr=subprocess.PIPE,
        text=True,
    )
    run = Running(process)
    reader = threading.Thread(target=run.read, daemon=True)
    reader.start()
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def serving(**environment: str) -> Generator[tuple[httpx.Client, Running]]:
    """Run `lookalike serve` on a free port."""
    with running("serve", "--port", "0", **environment) as run:
        address = run.wait_for(r"running at (http://\S+)")[1]
        with client_of(address) as client:
            yield client, run
