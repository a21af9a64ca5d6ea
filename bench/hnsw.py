"""When to build the HNSW index after a load instead of keeping it: `python -m bench.hnsw`.

Random unit vectors of the built-in encoder's size, in batches as indexing writes them.
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
from app.store.catalog import Entry
from app.store.hnsw import build, drop
from app.store.vectors import NewVector

ROWS = 20_000
BATCH = 500
PLAIN = Facts(640, 480, "JPEG", "", 0, 0, {}, [], b"")


async def load(lookalike: Lookalike, places: Sequence[int]) -> float:
    """Return the seconds that writing vectors takes."""
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
    print(f"{rows} rows into an empty table with its index: {rows / kept:.0f} rows per second")
    print(f"{rows} rows without the index: {rows / bare:.0f} rows per second")
    print(f"a build over {2 * rows} rows: {2 * rows / built:.0f} rows per second")
    per_row = (kept - bare) / (built / 2)
    print(f"keeping the index costs {per_row:.1f} times what a row of a build costs")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
