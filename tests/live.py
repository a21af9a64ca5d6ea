"""Real servers on loopback, in threads of their own."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

import uvicorn

from app.web.protocol import Protocol

T = TypeVar("T")

# From a connection that is accepted to its protocol, and from its end to that of its socket.
ROUNDS = 5


class Loop:
    """An event loop in a thread, for objects that live longer than one call."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Generator[T]:
        value = self.run(manager.__aenter__())
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    @contextmanager
    def serving(
        self, app: Any, *, port: int = 0, protocol: type[Protocol] = Protocol
    ) -> Generator[str]:
        """Serve an application on 127.0.0.1, by default on a free port; yields its base URL."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        config = uvicorn.Config(
            app, http=protocol, log_level="critical", timeout_graceful_shutdown=0
        )
        server = _Server(config)
        serving = asyncio.run_coroutine_threadsafe(server.serve([listener]), self._loop)
        assert server.answers.wait(10)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            self._loop.call_soon_threadsafe(server.stopping.set)
            serving.result(30)
            listener.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Server(uvicorn.Server):
    """uvicorn without the tenths of a second that it sleeps when it starts and when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = threading.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is open, whether or not it has been answered."""
        # What was accepted is a connection only some rounds of the loop later, and must find the
        # server open; else its socket stays open.
        for listener in sockets or []:
            asyncio.get_running_loop().remove_reader(listener)
        await _rounds()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await _rounds()
        await self.lifespan.shutdown()


async def _rounds() -> None:
    """Let the event loop do what is waiting, and what comes of it."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
