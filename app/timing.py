"""How long the stages of a search take."""

from time import perf_counter
from typing import TypedDict


class Timings(TypedDict):
    """Milliseconds that each stage took."""

    decode: float
    embed: float
    search: float
    total: float


class Clock:
    """Milliseconds spent in each stage, by the stage's name; a stage may come several times."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as this stage's."""
        now = perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def timings(self) -> Timings:
        """Return what was counted so far."""
        spent = {
            name: round(self._laps.get(name, 0.0), 2) for name in ("decode", "embed", "search")
        }
        total = round((self._last - self._start) * 1000, 2)
        return Timings(**spent, total=total)
