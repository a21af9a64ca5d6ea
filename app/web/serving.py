"""The processes that run until they are stopped: the server, and the worker."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.routing import BaseRoute

from app.lookalike import open_lookalike
from app.problems import WrongSetting
from app.settings import Settings
from app.web.server import create_app

# How long open requests may take to end after the signal to stop.
GRACE_S = 10


async def serve(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    routes: Sequence[BaseRoute] = (),
    on_ready: Callable[[str], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then end open requests and close every part.

    `on_ready` runs, with the server's address, once requests are answered. Raises a `StartProblem`.
    """
    listener = _listen(settings)
    address = f"http://{_host_to_call(settings.bind)}:{listener.getsockname()[1]}"
    with listener:
        async with open_lookalike(settings, announce=announce) as lookalike:

            async def ready() -> None:
                announce(f"Lookalike answers on {address} (Ctrl-C stops it)")
                if on_ready is not None:
                    await on_ready(address)

            server = _Server(create_app(lookalike, routes=routes), ready)

            def stop(number: int) -> None:
                # Clients that follow jobs would otherwise keep their connections open.
                lookalike.jobs.stop()
                server.handle_exit(number, None)

            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop, number)
            await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, but it tells when it answers, and leaves the signals to `serve`.

    Its own handlers would end the process before the database is closed.
    """

    def __init__(self, app: Any, ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._ready = ready
        self._told: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._told = asyncio.create_task(self._ready())


def _listen(settings: Settings) -> socket.socket:
    """Take the port before anything slow begins; connections are accepted when all is ready."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it, the body of an answer waits
    # 40 ms for the client to acknowledge the head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind, settings.port))
    except OSError as exc:
        listener.close()
        raise WrongSetting(
            f"PORT: cannot listen on {settings.bind}, port {settings.port}: {exc.strerror}"
        ) from exc
    return listener


def _host_to_call(bind: str) -> str:
    if bind in {"127.0.0.1", "0.0.0.0", "::", "::1"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{bind}]" if ":" in bind else bind
