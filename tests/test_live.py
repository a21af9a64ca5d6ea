"""The servers of the tests leave nothing behind."""

import gc
import socket
import warnings
from typing import Any

from tests.live import Loop


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing; no request comes."""


def test_connections_of_the_last_moment_are_closed() -> None:
    clients: list[socket.socket] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(10):
            loop = Loop()
            with loop.serving(silent) as url:
                address = ("127.0.0.1", int(url.rpartition(":")[2]))
                clients += [socket.create_connection(address) for _ in range(4)]
            loop.close()
        gc.collect()
    for client in clients:
        client.close()
    assert not [str(one.message) for one in warned if "unclosed" in str(one.message)]
