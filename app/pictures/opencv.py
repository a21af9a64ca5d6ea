"""OpenCV, imported at first use: that takes 70 ms, which most commands do without."""

import functools
from typing import Any


@functools.cache
def opencv() -> Any:
    """Return the module `cv2`, with one thread per call: searches run side by side anyway."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
