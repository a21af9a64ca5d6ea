"""`python -m bench.workers`: do several worker processes share a job, and does the rate add up?

One, two and four processes work on a job each, against one embedded Postgres; every item must end
exactly once, and be embedded exactly once. The encoder is simulated by a sleep of 20 ms per image,
as if each process had a processor of its own for it: everything else shares this machine's cores.
A job has as many images per process as one takes at once, so that each of them has its share.
"""

import argparse
import asyncio
import hashlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import psycopg
from PIL import Image

from app.encoding.encoder import Encoder, Reading, Vectors
from app.encoding.loading import Encoders
from app.jobs.worker import CHUNKS_AT_ONCE
from app.lookalike import Lookalike, open_lookalike
from app.settings import Settings, read_settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.job_items import CHUNK
from bench.faults import AUDIT
from bench.server import show

SECONDS_PER_IMAGE = 0.02
DIMENSIONS = 512
SIZE = (96, 64)


class Simulated:
    """A model that sleeps, and whose vectors come from the pixels."""

    name = fingerprint = "simulated"
    precision = "none"
    dimensions = DIMENSIONS
    side = 64
    provider = "sleep"
    largest_batch = 16
    has_text = False

    def prepare(self, image: Image.Image) -> int:
        return int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8])

    def embed_images(self, prepared: Sequence[Any]) -> Vectors:
        sleep(SECONDS_PER_IMAGE * len(prepared))
        vectors = [np.random.default_rng(seed).standard_normal(DIMENSIONS) for seed in prepared]
        return np.array(vectors, np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        raise NotImplementedError

    def read(self, text: str) -> Reading:
        return Reading()


def settings_of(data: Path) -> Settings:
    return read_settings(data_dir=data, database_url=None, log_level="warning")


async def work(data: Path) -> None:
    """Work on jobs until SIGTERM, then print how many images were embedded here."""
    encoder = Encoder(Simulated(), source="simulated")
    try:
        async with open_lookalike(
            settings_of(data), announce=lambda _: None, encoders=Encoders.single(encoder)
        ) as lookalike:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lookalike.jobs.stop)
            print("ready", flush=True)
            await lookalike.jobs.work()
    finally:
        encoder.close()
    print(encoder.images.items, flush=True)


@contextmanager
def workers(data: Path, number: int) -> Generator[list[int]]:
    """Start processes that work; the list is of how many images each embedded, on leaving."""
    embedded: list[int] = []
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.workers", "--work", str(data)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield embedded
    finally:
        for process in processes:
            process.terminate()
        embedded.extend(int(process.communicate()[0]) for process in processes)


def write_photos(folder: Path, number: int, *, seed: int) -> list[str]:
    """Write files of noise, no two alike; return their URLs."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    paths = [folder / f"{place}.jpg" for place in range(number)]
    for path in paths:
        pixels = rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
        Image.fromarray(pixels).resize(SIZE).save(path)
    return [path.as_uri() for path in paths]


async def rate(lookalike: Lookalike, data: Path, number: int, images: int) -> float:
    """Return images per second of a job, from its creation to its end, by so many processes."""
    urls = write_photos(data.parent / f"photos-{number}", images, seed=number)
    with workers(data, number) as embedded:
        start = perf_counter()
        job_id = await lookalike.jobs.create("bench", [NewItem("file", Entry(url)) for url in urls])
        counts = [progress.counts async for progress in lookalike.jobs.watch(job_id)]
        taken = perf_counter() - start
    assert counts[-1] == {"indexed": images}, counts[-1]
    with psycopg.connect(lookalike.database.url) as connection:
        ended = connection.execute(
            "SELECT count(*), count(DISTINCT position) FROM ended_items WHERE job_id = %s", [job_id]
        ).fetchone()
    assert ended == (images, images), ended
    assert sum(embedded) == images, embedded
    assert all(embedded), embedded
    return images / taken


async def measure(numbers: Sequence[int], images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        encoder = Encoder(Simulated(), source="simulated")
        rates: dict[int, float] = {}
        async with open_lookalike(
            settings_of(data), announce=lambda _: None, encoders=Encoders.single(encoder)
        ) as lookalike:
            with psycopg.connect(lookalike.database.url, autocommit=True) as connection:
                connection.execute(AUDIT)
            for number in numbers:
                rates[number] = await rate(lookalike, data, number, images * number)
                print(f"{number}: {rates[number]:.1f} images per second", flush=True)
        encoder.close()
    print(f"\n{images} images per process; each was handed out, embedded and ended once.\n")
    first = rates[numbers[0]]
    rows: list[tuple[object, ...]] = [(n, f"{r:.1f}", f"{r / first:.2f}") for n, r in rates.items()]
    show(rows, "worker processes", "images per second", "in relation to the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=CHUNKS_AT_ONCE * CHUNK)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.work))
    else:
        asyncio.run(measure(options.workers, options.images))


if __name__ == "__main__":
    main()
