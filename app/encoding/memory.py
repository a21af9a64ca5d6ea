"""Memory that loading a model leaves behind."""

import ctypes
import sys
from contextlib import suppress


def return_freed_memory() -> None:
    """Return memory that is free to the system, where the C library keeps it for later.

    Loading a model takes several times the memory that it needs afterwards: of the built-in one's
    130 MB, 90 are free. Only glibc has a function for this.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
