"""Filtered search at every selectivity: `make bench-filter` (ROWS=1000000, about 25 minutes).

Three plans for the ten nearest images that match a filter: ours, which chooses by the estimated
share of matching rows; the one that Postgres' planner chooses; and post-filtering, which takes ten
from the index and drops those that do not match. Recall is relative to an exact scan. The vectors
are synthetic: points of a 24-dimensional space in 512 dimensions, about as many as a real encoder
uses.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from sqlalchemy import select, text

from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import Facts
from app.settings import read_settings
from app.store.filters import NO_FILTERS, Filters
from app.store.hnsw import build, drop
from app.store.images import Entry
from app.store.nearest import conditions
from app.store.scans import EF_SEARCH
from app.store.vectors import NewVector

LATENT = 24
BATCH = 5_000
LIMIT = 10
# The tags, each named after the percentage of images that have it.
SHARES = (50, 20, 10, 5, 3, 2, 1, 0.5, 0.3, 0.1, 0.05, 0.01)


def vectors(rng: np.random.Generator, rows: int, dimensions: int) -> Any:
    directions = np.random.default_rng(7).normal(size=(LATENT, dimensions))
    made = rng.normal(size=(rows, LATENT)) @ directions
    made += rng.normal(size=made.shape) * 0.3
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


async def load(lookalike: Lookalike, rows: int) -> None:
    """Fill the vector table through the store, then build the index."""
    rng = np.random.default_rng(0)
    await drop(lookalike.database, lookalike.vectors.index)
    for first in range(await lookalike.vectors.count(), rows, BATCH):
        made = vectors(rng, BATCH, lookalike.encoder.dimensions)
        having = {share: rng.random(BATCH) * 100 < share for share in SHARES}
        widths = rng.integers(0, 1_000_000, BATCH)
        new: list[NewVector] = []
        for place in range(BATCH):
            tags = [f"p{share}" for share in SHARES if having[share][place]]
            url = f"https://host{place % 50}.example.com/archive/{first + place}.jpg"
            entry = Entry(url, f"Picture {first + place}", "", tags, {})
            facts = Facts(int(widths[place]), 480, "JPEG", "", 0, 0, {}, [], b"")
            new.append(NewVector(entry, facts, "0" * 64, made[place]))
        async with lookalike.database.begin() as connection:
            await lookalike.vectors.upsert(connection, new)
        if first % 100_000 == 0:
            print(f"{first} rows", flush=True)
    async for share in build(lookalike.database, lookalike.vectors.index, rows=rows):
        print(f"index {share:.0%}", end="\r", flush=True)
    table = lookalike.vectors.table.name
    with lookalike.database.sync_engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(f"VACUUM ANALYZE {table}"))


Search = Callable[[Any, Filters], Awaitable[list[str]]]


def plans(lookalike: Lookalike) -> dict[str, Search]:
    vectors, database = lookalike.vectors, lookalike.database
    table = vectors.table

    async def ours(vector: Any, filters: Filters) -> list[str]:
        return [str(i) for i, _ in await vectors.nearest(vector, limit=LIMIT, filters=filters)]

    async def run(vector: Any, wanted: Sequence[Any], **settings: str) -> list[str]:
        query = select(table.c.node_id).where(*wanted)
        query = query.order_by(table.c.embedding.cosine_distance(vector)).limit(LIMIT)
        async with database.begin() as connection:
            for name, value in settings.items():
                statement = text("SELECT set_config(:name, :value, true)")
                await connection.execute(
                    statement, {"name": name.replace("__", "."), "value": value}
                )
            return list(await connection.scalars(query))

    async def planner(vector: Any, filters: Filters) -> list[str]:
        return await run(
            vector,
            conditions(table, filters),
            hnsw__ef_search=str(EF_SEARCH),
            hnsw__iterative_scan="strict_order",
        )

    async def afterwards(vector: Any, filters: Filters) -> list[str]:
        found = await run(vector, (), hnsw__ef_search=str(EF_SEARCH))
        query = select(table.c.node_id).where(
            table.c.node_id.in_(found), *conditions(table, filters)
        )
        async with database.begin() as connection:
            return list(await connection.scalars(query))

    async def exact(vector: Any, filters: Filters) -> list[str]:
        return await run(vector, conditions(table, filters), enable_indexscan="off")

    return {"ours": ours, "planner": planner, "afterwards": afterwards, "exact": exact}


async def measure(search: Search, queries: Any, filters: Filters) -> tuple[float, list[set[str]]]:
    """Return the median seconds of a search with its pages in memory, and the results of each."""
    times: list[float] = []
    found: list[set[str]] = []
    for vector in queries:
        await search(vector, filters)
        start = perf_counter()
        found.append(set(await search(vector, filters)))
        times.append(perf_counter() - start)
    return median(times), found


async def main(rows: int, data_dir: Path, number: int) -> None:
    settings = read_settings(data_dir=data_dir, encoder="builtin", database_url=None)
    async with open_lookalike(settings, announce=lambda _: None) as lookalike:
        if await lookalike.vectors.count() < rows:
            await load(lookalike, rows)
        dimensions = lookalike.encoder.dimensions
        queries = vectors(np.random.default_rng(1), number, dimensions)
        searches = plans(lookalike)
        print(f"{rows} rows x {dimensions}, {LIMIT} nearest, median of {number} queries, in ms")
        print(
            f"{'match':>7}  {'ours':>7} recall   {'planner':>7} recall   {'afterwards':>10} recall"
        )
        for share in (100, *SHARES):
            filters = NO_FILTERS if share == 100 else Filters(tags=[f"p{share}"])
            _, right = await measure(searches["exact"], queries[:10], filters)
            line = f"{share:>6}%"
            for name in ("ours", "planner", "afterwards"):
                seconds, found = await measure(searches[name], queries, filters)
                pairs = zip(found[:10], right, strict=True)
                recall = sum(len(a & b) for a, b in pairs) / sum(map(len, right))
                line += f"  {seconds * 1000:7.1f}  {recall:.3f} "
            print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--data-dir", type=Path, default=Path("data/bench-filter"))
    parser.add_argument("--queries", type=int, default=30)
    given = parser.parse_args()
    asyncio.run(main(given.rows, given.data_dir, given.queries))
