"""How many may search, or wait for something, at once, and for how long."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

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


class Turns:
    """A number of places, whose owners have their turns, so many at once."""

    def __init__(self, number: int, *, at_once: int) -> None:
        self._places = Places(number)
        self._turns = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None]:
        """Take a place, wait for its turn, and keep both for as long as the context lasts."""
        with self._places.taken():
            async with self._turns:
                yield


@asynccontextmanager
async def limited(deadline: float, timeout_s: float) -> AsyncGenerator[None]:
    """Raise `TooBusy` at the given time of the event loop, which ends a search's `timeout_s`."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as exc:
        raise TooBusy(f"The search took longer than {timeout_s:g} s.") from exc
