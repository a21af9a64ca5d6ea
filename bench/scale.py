"""The kinds of vector index, one after the other: `make bench-scale DATA=… ROWS=1000000`.

Of each: how long it takes to build, its bytes, how long searches take and what they miss of the
ten nearest, with filters that 10%, 1% and 0.1% pass, and how many rows per second are written while
others search. What is done is kept under `--data-dir`, and not done again (docs/scale.md).
"""

import argparse
import asyncio
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sqlalchemy import text

from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import Facts
from app.settings import read_settings
from app.store.filters import NO_FILTERS, Filters
from app.store.images import Entry
from app.store.index_choice import Choice
from app.store.index_kinds import IndexKind, begin_bulk, end_bulk, index_bytes
from app.store.milvus.filling import leave
from app.store.nearest import nearest
from app.store.row_counts import row_count
from app.store.scans import SCANS
from app.store.vectors import NewVector
from bench.scale_vectors import Mixture, batches

BATCH, LIMIT, QUERIES = 5_000, 10, 100
SHARES = (100, 10, 1, 0.1)
WRITTEN, SEARCHERS = 2_000, 2


class Bench:
    """An index of so many rows, and what was measured of it."""

    def __init__(self, lookalike: Lookalike, mixture: Mixture, rows: int, folder: Path) -> None:
        self.vectors, self.mixture, self.rows = lookalike.vectors, mixture, rows
        self.path = folder / f"scale-{rows}.json"
        self.known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def keep(self, name: str, value: Any) -> None:
        self.known[name] = value
        self.path.write_text(json.dumps(self.known, indent=1))
        print(f"{name}: {value}", flush=True)

    async def load(self) -> None:
        """Write the rows that are not there yet, without an index."""
        done = await self.vectors.count()
        if done >= self.rows:
            return
        await begin_bulk(self.vectors)
        start = perf_counter()
        for batch in batches(self.rows, BATCH, done=done):
            await self.write(batch)
        self.keep("rows per second without an index", round(self.rows / (perf_counter() - start)))

    async def write(self, batch: int, size: int = BATCH) -> None:
        made = self.mixture.rows(batch, size)
        drawn = np.random.default_rng((3, batch)).random(size) * 100
        new = [
            NewVector(
                Entry(
                    f"https://host{place % 50}.example.com/{batch}/{place}.jpg",
                    tags=[f"p{share}" for share in SHARES[1:] if drawn[place] < share],
                    metadata={},
                ),
                Facts(640, 480, "JPEG", "", 0, 0, {}, [], b""),
                f"{batch:032x}{place:032x}",
                made[place],
            )
            for place in range(size)
        ]
        async with self.vectors.database.begin() as connection:
            await self.vectors.upsert(connection, new)

    async def analyse(self) -> None:
        name = self.vectors.table.name

        def run() -> None:
            with self.vectors.database.sync_engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(text(f"VACUUM ANALYZE {name}"))

        await asyncio.to_thread(run)

    async def right(self, share: float, queries: Any) -> list[list[str]]:
        """Return the nearest of each query, by comparing every row."""
        name = f"right {share}%"
        if name not in self.known:
            found: list[list[str]] = []
            for vector in queries:
                async with self.vectors.database.reading() as connection:
                    rows = await nearest(
                        connection,
                        self.vectors.table,
                        vector,
                        limit=LIMIT,
                        filters=passing(share),
                        exactly=True,
                    )
                found.append([row.node_id for row in rows])
            self.known[name] = found
            self.path.write_text(json.dumps(self.known))
        return self.known[name]

    async def measure(self, kind: IndexKind) -> None:
        if f"{kind}: done" in self.known:
            return
        queries = self.mixture.queries(0, BATCH, QUERIES)
        await begin_bulk(self.vectors)
        self.vectors.choice = Choice(kind, 0)
        start = perf_counter()
        async for _ in end_bulk(self.vectors):
            pass
        self.keep(f"{kind}: seconds to build", round(perf_counter() - start, 1))
        await self.analyse()
        if kind != "milvus":
            size = await index_bytes(self.vectors)
            self.keep(f"{kind}: bytes per row", round(size / self.rows))
            row_count(self.vectors.table).kind = kind
        for share in SHARES:
            await self.searches(kind, share, queries)
        await self.writes(kind, queries)
        outside = self.vectors.outside
        await leave(self.vectors.database, outside.milvus, self.vectors.table, grace_s=0)
        self.keep(f"{kind}: done", True)

    async def searches(self, kind: IndexKind, share: float, queries: Any) -> None:
        right = await self.right(share, queries)
        times: list[float] = []
        recalled = 0
        for vector, ids in zip(queries, right, strict=True):
            # With its pages in memory.
            for timed in (False, True):
                start = perf_counter()
                found = await self.vectors.nearest(vector, limit=LIMIT, filters=passing(share))
                if timed:
                    times.append(1000 * (perf_counter() - start))
            recalled += len({str(image_id) for image_id, _ in found} & set(ids))
        p50, p95 = np.percentile(times, (50, 95))
        recall = recalled / sum(map(len, right))
        figures = [round(float(p50), 1), round(float(p95), 1), round(recall, 3)]
        self.keep(f"{kind}, {share}%: p50, p95 in ms, recall@10", figures)

    async def writes(self, kind: IndexKind, queries: Any) -> None:
        """Write rows while others search; they are deleted again."""
        searched = 0

        async def search() -> None:
            nonlocal searched
            while True:
                await self.vectors.nearest(queries[searched % len(queries)], limit=LIMIT)
                searched += 1

        searching = [asyncio.create_task(search()) for _ in range(SEARCHERS)]
        start, first = perf_counter(), 10_000_000
        for batch in range(first, first + WRITTEN // 100):
            await self.write(batch, 100)
        taken = perf_counter() - start
        for task in searching:
            task.cancel()
        await asyncio.gather(*searching, return_exceptions=True)
        self.keep(
            f"{kind}: rows written and searches per second, at once",
            [round(WRITTEN / taken), round(searched / taken)],
        )
        async with self.vectors.database.begin() as connection:
            await connection.execute(
                text(f"DELETE FROM {self.vectors.table.name} WHERE metadata_->>'sha256' >= :first"),
                {"first": f"{first:032x}"},
            )


def passing(share: float) -> Filters:
    return NO_FILTERS if share == 100 else Filters(tags=[f"p{share}"])


async def main(
    rows: int, data_dir: Path, photos: list[Path], kinds: list[IndexKind], encoder: str
) -> None:
    settings = read_settings(
        data_dir=data_dir / f"{encoder}-{rows}",
        encoder=encoder,
        copy_encoder="off",
        database_url=None,
        vector_index="halfvec",
    )
    async with open_lookalike(settings, announce=lambda _: None) as lookalike:
        kept = settings.data_dir / "mixture.npz"
        mixture = Mixture.fitted(lookalike.encoder, photos, kept)
        bench = Bench(lookalike, mixture, rows, settings.data_dir)
        await bench.load()
        for kind in kinds:
            await bench.measure(kind)
        async with lookalike.database.reading() as connection:
            heap = await connection.scalar(
                text("SELECT pg_relation_size(to_regclass(:name))"),
                {"name": lookalike.vectors.table.name},
            )
        bench.keep("bytes per row of the table", round((heap or 0) / rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="a multiple of 5,000")
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--data-dir", type=Path, default=Path("data/bench-scale"))
    parser.add_argument("--encoder", default="builtin")
    # milvus is at MILVUS_URL.
    every = [*SCANS, "milvus"]
    parser.add_argument("--kinds", nargs="+", choices=every, default=list(SCANS))
    given = parser.parse_args()
    asyncio.run(main(given.rows, given.data_dir, given.photos, given.kinds, given.encoder))
