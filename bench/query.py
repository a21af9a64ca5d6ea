"""A server's queries against what they cannot do without: `python -m bench.query`.

`/api/query` by one client, the encoder alone and pgvector alone take turns on the same index, so
that a busy machine is as busy for each of them. Then several clients at once, starts, and memory.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import psutil
from PIL import Image

from app.encoding.encoder import Encoder
from app.pictures.decoding import decode
from app.settings import read_settings
from app.store.database import driver_connection
from app.store.halfvec import Half
from app.store.index import Index, open_index
from bench.photos import make_photos
from bench.server import Process, async_client_of, client_of, serve, show

IMAGES = 200
QUERIES = 60
SIZE = (640, 427)
CLIENTS = (1, 4, 16)
SECONDS = 4
# Above this share of a core in a second, the server still makes keypoints.
CALM = 0.05

Row = tuple[str, str, str]


def queries() -> list[bytes]:
    """Return JPEGs of 640 x 427 of which the index has the originals."""
    made: list[bytes] = []
    for data in make_photos(QUERIES):
        out = BytesIO()
        Image.open(BytesIO(data)).resize(SIZE).save(out, "JPEG", quality=88)
        made.append(out.getvalue())
    return made


def core_seconds(server: Process) -> float:
    """Return what the process of a server, without its database, has calculated so far."""
    return sum(psutil.Process(server.pid).cpu_times()[:2])


def wait_until_calm(server: Process) -> None:
    spent = core_seconds(server)
    while True:
        psutil.Process(server.pid).cpu_percent(1)
        before, spent = spent, core_seconds(server)
        if spent - before < CALM:
            return


class Alone:
    """The encoder and pgvector, without all that is around them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._encoder: Encoder = index.spaces.of(index.spaces.calibrated).encoder
        self._table = index.spaces.of(index.spaces.calibrated).vectors.table.name

    async def times(self, driver: Any, data: bytes) -> tuple[float, float]:
        """Return the milliseconds of embedding an image, and of finding its nearest."""
        image = decode(data, max_pixels=10**8, model_side=self._encoder.model.side).image
        prepared = self._encoder.model.prepare(image)
        start = perf_counter()
        vector = await self._encoder.embed_prepared(prepared)
        embedded = perf_counter()
        cursor = await driver.execute(
            f"SELECT node_id FROM {self._table} ORDER BY embedding <=> %s::halfvec LIMIT 10",
            [Half(vector)],
        )
        await cursor.fetchall()
        return (embedded - start) * 1000, (perf_counter() - embedded) * 1000


async def latencies(url: str, folder: Path, sent: Sequence[bytes]) -> tuple[float, float, float]:
    """Return the median milliseconds of a query, of the encoder and of pgvector."""
    settings = read_settings(data_dir=folder, encoder="builtin", database_url=None)
    taken: list[tuple[float, float, float]] = []
    async with (
        open_index(settings, announce=lambda _: None, in_use=False) as index,
        index.database.reading() as connection,
        async_client_of(url) as client,
    ):
        driver, alone = await driver_connection(connection), Alone(index)
        for data in (*sent[:5], *sent):
            start = perf_counter()
            (await client.post("/api/query", files={"file": data})).raise_for_status()
            whole = (perf_counter() - start) * 1000
            taken.append((whole, *await alone.times(driver, data)))
    query, encoder, raw = (median(column) for column in zip(*taken[5:], strict=True))
    return query, encoder, raw


async def rate(url: str, clients: int, sent: Sequence[bytes]) -> float:
    """Return queries per second of so many clients."""
    until, done = perf_counter() + SECONDS, 0

    async def ask(client: httpx.AsyncClient, place: int) -> None:
        nonlocal done
        while perf_counter() < until:
            data = sent[place % len(sent)]
            (await client.post("/api/query", files={"file": data})).raise_for_status()
            done, place = done + 1, place + clients

    start = perf_counter()
    async with async_client_of(url) as client:
        await asyncio.gather(*(ask(client, place) for place in range(clients)))
    return done / (perf_counter() - start)


def rows() -> list[Row]:
    """Measure a server, and return what was found: what, the value, and its relation."""
    sent, found = queries(), list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        starts: list[float] = []
        for _ in range(3):
            start = perf_counter()
            server, url = serve(folder)
            starts.append(perf_counter() - start)
            if len(starts) < 3:
                server.stop()
        idle = server.resident_mb()
        try:
            with client_of(url) as client:
                for data in make_photos(IMAGES):
                    client.post("/api/images", files={"file": data}).raise_for_status()
            wait_until_calm(server)
            query, encoder, raw = asyncio.run(latencies(url, folder, sent))
            over = query - encoder - raw
            found.append(("query, ms", f"{query:.1f}", f"{over:.1f} over encoder + pgvector"))
            found.append(("encoder, pgvector, ms", f"{encoder:.1f}, {raw:.1f}", ""))
            for clients in CLIENTS:
                spent = core_seconds(server)
                each = asyncio.run(rate(url, clients, sent))
                cores = (core_seconds(server) - spent) / SECONDS / each * 1000
                found.append(
                    (f"queries/s, {clients} clients", f"{each:.0f}", f"{cores:.1f} core-ms")
                )
            busy = server.resident_mb()
        finally:
            server.stop()
    found.append(("first start, s", f"{starts[0]:.1f}", ""))
    found.append(("start, s", f"{min(starts[1:]):.1f}", ""))
    found.append(("memory idle, busy, MB", f"{idle:.0f}, {busy:.0f}", f"{busy / idle:.2f}"))
    return found


def main() -> None:
    show(rows(), "what", "measured", "in relation")


if __name__ == "__main__":
    main()
