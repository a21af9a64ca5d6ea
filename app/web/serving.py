"""The server as a process: its port, its signals, its start and its end."""

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.routing import BaseRoute

from app.encoding.memory import return_freed_memory
from app.lookalike import Lookalike, open_lookalike
from app.problems import PortTaken, StorageUnavailable, WrongSetting
from app.settings import Settings
from app.store.server_file import announced
from app.web.access import read_warnings
from app.web.protocol import Protocol
from app.web.server import create_app, create_worker_app

# How long open requests have to finish after the signal to stop.
GRACE_S = 10


async def serve(
    settings: Settings,
    *,
    announce: Callable[[str], None],
    routes: Sequence[BaseRoute] = (),
    on_ready: Callable[[str], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish open requests and close every part.

    `on_ready` runs with the server's URL once requests are answered. Raises a `StartProblem`.
    """
    listener = _listen(settings)
    url = f"http://{_host_to_open(settings.bind)}:{listener.getsockname()[1]}"
    with listener:
        async with AsyncExitStack() as stack:
            lookalike = await stack.enter_async_context(open_lookalike(settings, announce=announce))
            await _check_storage(lookalike)
            secret = stack.enter_context(announced(settings, url))

            async def ready() -> None:
                for warning in read_warnings(settings):
                    announce(warning)
                lookalike.searcher.warm_up()
                return_freed_memory()
                announce(f"Lookalike is running at {url} (press Ctrl-C to stop)")
                if on_ready is not None:
                    await on_ready(url)

            server = _Server(
                create_app(lookalike, routes=routes, command_secret=secret), settings, ready
            )

            def stop(number: int) -> None:
                # Clients that follow jobs would otherwise keep the server open.
                lookalike.jobs.stop()
                server.handle_exit(number, None)

            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop, number)
            await server.serve(sockets=[listener])


async def _check_storage(lookalike: Lookalike) -> None:
    """Raise `WrongSetting` if uploads cannot be stored."""
    try:
        await lookalike.media.check()
    except StorageUnavailable as exc:
        where = lookalike.settings.media_url or lookalike.settings.data_dir / "media"
        raise WrongSetting(
            f"Uploads cannot be stored in {where}: {exc.__cause__}. Free or change the place: it "
            "is MEDIA_URL or, if that is unset, a folder of DATA_DIR."
        ) from exc


@asynccontextmanager
async def serving_metrics(
    lookalike: Lookalike, *, announce: Callable[[str], None]
) -> AsyncGenerator[None]:
    """Serve the metrics of a worker on METRICS_PORT within the context; raises `WrongSetting`."""
    settings = lookalike.settings.model_copy(update={"port": lookalike.settings.metrics_port})
    try:
        listener = _listen(settings)
    except WrongSetting as exc:
        raise WrongSetting(
            f"METRICS_PORT: cannot listen on {settings.bind}, port {settings.port}; "
            "each worker of a machine needs one of its own."
        ) from exc
    url = f"http://{_host_to_open(settings.bind)}:{listener.getsockname()[1]}/metrics"

    async def ready() -> None:
        announce(f"Metrics are at {url}")

    with listener:
        server = _Server(create_worker_app(lookalike), settings, ready)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """uvicorn, except that it reports when it is ready and leaves the signals to `serve`.

    uvicorn's own handlers would end the process before the database is closed.
    """

    def __init__(
        self, app: Any, settings: Settings, ready: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol.limited(settings),
                # Its lines go to our log, and it would log each request once more.
                log_config=None,
                access_log=False,
                # Below, it reports only clients that speak no HTTP, as does `Protocol`.
                log_level="error",
                server_header=False,
                forwarded_allow_ips=settings.forwarded_allow_ips,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._settings = settings
        self._ready = ready
        self._reporting: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as exc:
            # Another server, started at the same time, has taken the port meanwhile.
            await self.lifespan.shutdown()
            raise _unusable_port(self._settings, exc) from exc
        self._reporting = asyncio.create_task(self._ready())


def _listen(settings: Settings) -> socket.socket:
    """Bind the port before anything slow starts; connections are accepted once all is ready."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it, the body of a response waits
    # 40 ms for the client to acknowledge the head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind, settings.port))
    except OSError as exc:
        listener.close()
        raise _unusable_port(settings, exc) from exc
    return listener


def _unusable_port(settings: Settings, exc: OSError) -> WrongSetting:
    bind, port = settings.bind, settings.port
    if exc.errno == errno.EADDRINUSE:
        return PortTaken(
            f"Port {port} on {bind} is already in use. Choose another with --port or PORT, "
            f"for example --port {another_port(port)}."
        )
    return WrongSetting(f"PORT: cannot listen on {bind}, port {port}: {exc.strerror}")


def another_port(port: int) -> int:
    """Return a port to suggest in place of one that is taken."""
    return port + 1 if port < 65535 else port - 1


def _host_to_open(bind: str) -> str:
    if bind in {"127.0.0.1", "0.0.0.0", "::", "::1"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{bind}]" if ":" in bind else bind
