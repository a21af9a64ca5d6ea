"""How many event streams are open, so that no client holds all connections."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from app.problems import TooBusy, TooManyStreams

# A page has one stream, and a browser makes six connections to a server.
MOST_PER_CLIENT = 50
MOST_IN_ALL = 1000


class StreamCounter:
    """Counts the open streams of a server, by client."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def counted(self, client: str) -> Generator[None]:
        """Count a stream while it is open; raises `TooManyStreams` or `TooBusy`."""
        if self._open[client] >= MOST_PER_CLIENT:
            raise TooManyStreams
        if self._open.total() >= MOST_IN_ALL:
            raise TooBusy("Too many event streams are open; try again soon.")
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            # Or every client that ever came would stay.
            if not self._open[client]:
                del self._open[client]
