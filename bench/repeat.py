"""What a cache of results would save: `python -m bench.repeat`.

Repeats one search, and compares it with the cheapest check of whether a cached result is still
valid: has the database changed?
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from sqlalchemy import text

from app.indexing.coalescer import gather
from app.lookalike import open_lookalike
from app.search.query import Query, Term
from app.settings import read_settings
from bench.photos import make_photos

SEARCHES = 200
SHOWN = 60


async def main(number: int) -> None:
    photos = make_photos(number)
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings(data_dir=Path(folder), encoder="builtin", database_url=None)
        async with open_lookalike(settings, announce=lambda _: None) as lookalike:
            indexer = lookalike.indexer
            await gather([indexer.upsert_upload(data, title="") for data in photos])
            took: list[dict[str, float]] = []
            for _ in range(SEARCHES):
                results = await lookalike.searcher.search(Query([Term(photos[0])], limit=SHOWN))
                took.append(dict(results.took_ms))
            asked: list[float] = []
            for _ in range(SEARCHES):
                start = perf_counter()
                async with lookalike.database.begin() as connection:
                    await connection.execute(text("SELECT pg_current_wal_lsn()"))
                asked.append((perf_counter() - start) * 1000)
    stages = {stage: median(t[stage] for t in took) for stage in took[0]}
    total = stages.pop("total")
    shares = ", ".join(f"{stage} {ms / total:.0%}" for stage, ms in stages.items())
    print(f"Repeating a search by image among {number} images takes {total:.1f} ms: {shares}.")
    saved = stages["search"] - median(asked)
    print(f"A cache keyed by the vector would save {saved / total:.0%} of it.")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
