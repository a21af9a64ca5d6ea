"""Maintaining the HNSW index during a bulk load, or building it afterwards: `python -m bench.hnsw`.

Uses random unit vectors of the built-in encoder's size, in batches like those of indexing.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import Facts
from app.settings import read_settings
from app.store.hnsw import build, drop
from app.store.images import Entry
from app.store.vectors import NewVector

ROWS = 20_000
BATCH = 500
PLAIN = Facts(640, 480, "JPEG", "", 0, 0, {}, [], b"")


async def load(lookalike: Lookalike, places: Sequence[int]) -> float:
    """Write vectors; return the seconds it took."""
    rng = np.random.default_rng(places[0])
    taken = 0.0
    for first in range(0, len(places), BATCH):
        vectors = rng.normal(size=(BATCH, lookalike.encoder.dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = [
            NewVector(Entry(f"https://example.com/{place}"), PLAIN, "", vector)
            for place, vector in zip(places[first : first + BATCH], vectors, strict=True)
        ]
        start = perf_counter()
        async with lookalike.database.begin() as connection:
            await lookalike.vectors.upsert(connection, rows)
        taken += perf_counter() - start
    return taken


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings(data_dir=Path(folder), encoder="builtin", database_url=None)
        async with open_lookalike(settings, announce=lambda _: None) as lookalike:
            kept = await load(lookalike, range(rows))
            await drop(lookalike.database, lookalike.vectors.index)
            bare = await load(lookalike, range(rows, 2 * rows))
            start = perf_counter()
            async for _ in build(lookalike.database, lookalike.vectors.index, rows=2 * rows):
                pass
            built = perf_counter() - start
    print(f"inserting {rows} rows with the index: {rows / kept:.0f} rows per second")
    print(f"inserting {rows} rows without the index: {rows / bare:.0f} rows per second")
    print(f"building the index over {2 * rows} rows: {2 * rows / built:.0f} rows per second")
    per_row = (kept - bare) / (built / 2)
    print(f"maintaining the index costs {per_row:.1f} times as much per row as building it")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
