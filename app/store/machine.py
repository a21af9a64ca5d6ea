"""The machine that the embedded Postgres shares with us."""

import os
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """Return the bytes of the machine's memory, or the container's limit if that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = _LIMIT.read_text().strip() if _LIMIT.exists() else ""
    return min(memory, int(allowed)) if allowed.isdigit() else memory
