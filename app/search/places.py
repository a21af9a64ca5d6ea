"""How many may search, or wait for something, at once."""

from collections.abc import Generator
from contextlib import contextmanager

from app.problems import TooBusy


class Places:
    """A number of places; who finds all of them taken gets `TooBusy` at once."""

    def __init__(self, number: int) -> None:
        self._free = number

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take a place for as long as the context lasts."""
        if not self._free:
            raise TooBusy
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
