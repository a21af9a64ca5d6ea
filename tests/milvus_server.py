"""A Milvus for tests: the server that the package `milvus` 2.3.5 carries, on loopback only.

That server listens on all addresses, and on ports that cannot all be chosen. So it runs in a
network of its own (`unshare`), and what connects to a port of loopback here is passed on to it
through a socket in its folder. Run as a program, this is the part inside.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

# Where tests/milvus_setup.py puts it.
PACKAGE = Path(sys.prefix) / "milvus"
STARTS_WITHIN_S = 300
PORT = 19530
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class MilvusServer:
    """A server with its data in a folder; it keeps its URL when it is ended and started again."""

    def __init__(self, folder: Path, **config: str | int | bool) -> None:
        """`config` is of the names in its config.yaml.template."""
        self._config = json.dumps(config)
        # The path of a socket may have 107 bytes.
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._inside: subprocess.Popen[bytes] | None = None
        self._relay = Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._stop: Callable[[], Any] = lambda: None
        self._relay.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        for name in ("pid", "socket"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._inside = subprocess.Popen(
                [
                    "unshare",
                    "--map-root-user",
                    "--net",
                    sys.executable,
                    __file__,
                    self.folder,
                    self._config,
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = monotonic() + STARTS_WITHIN_S
        while not (self.folder / "socket").exists():
            assert self._inside.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert monotonic() < deadline, "Milvus does not start"
            sleep(0.1)

    def kill(self) -> None:
        """End it with kill -9."""
        assert self._inside is not None
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        self._inside.wait(30)
        self._inside = None

    def close(self) -> None:
        """End it, if it runs, and its port."""
        if self._inside is not None:
            self.kill()
        self._stop()
        self._relay.join()

    async def _serve(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(over.set)
        path = str(self.folder / "socket")
        server = await asyncio.start_server(
            lambda *ends: _relay(ends, lambda: asyncio.open_unix_connection(path)),
            sock=self._socket,
        )
        await over.wait()
        server.close()


async def _relay(near: Streams, connect: Callable[[], Awaitable[Streams]]) -> None:
    """Pass on what comes from either end, until one of them closes."""
    try:
        far = await connect()
    except OSError:
        near[1].close()
        return
    ways = [
        asyncio.create_task(_pass_on(near[0], far[1])),
        asyncio.create_task(_pass_on(far[0], near[1])),
    ]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    near[1].close()
    far[1].close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _bring_up_loopback() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


async def _run(folder: Path, config: dict[str, Any]) -> None:
    sys.path.insert(0, str(PACKAGE))
    from milvus import MilvusServer as Carried  # pyright: ignore[reportMissingImports]
    from milvus import MilvusServerConfig  # pyright: ignore[reportMissingImports]

    _bring_up_loopback()
    made: Any = MilvusServerConfig(data_dir=str(folder / "data"))
    for name, value in config.items():
        made.set(name, value)
    carried: Any = Carried(made)
    await asyncio.to_thread(carried.start)
    (folder / "pid").write_text(str(carried.server_proc.pid))
    server = await asyncio.start_unix_server(
        lambda *ends: _relay(ends, lambda: asyncio.open_connection("127.0.0.1", PORT)),
        folder / "new",
    )
    (folder / "new").rename(folder / "socket")
    await asyncio.to_thread(carried.server_proc.wait)
    server.close()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), json.loads(sys.argv[2])))
