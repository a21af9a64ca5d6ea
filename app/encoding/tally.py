"""Observations counted by size, for whoever wants to plot them."""

import threading
from bisect import bisect_left
from collections.abc import Sequence


class Tally:
    """Counts observations by the lowest of the ascending `bounds` that is no smaller."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Count an observation."""
        with self._lock:
            self._counts[bisect_left(self.bounds, value)] += 1
            self._sum += value

    def read(self) -> tuple[list[int], float]:
        """Return the number per bound, and of what is above all, and the sum of the values."""
        with self._lock:
            return list(self._counts), self._sum
