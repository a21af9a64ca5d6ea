"""What proving matches costs: `python -m bench.verify [IMAGES]`.

Each query is asked in turns without verification, with it, and with a search for parts, so that the
machine's speed counts little. Ten images are compared with each, whose keypoints are stored: other
pieces of the same photos, nearly all of which are copies (the worst case); one copy and nine other
pictures that look alike (what is usual); or ten that have nothing in common with it. In the same
way, photos are indexed in turns with keypoints being made beside and without.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from PIL import Image, ImageOps

from app.indexing.coalescer import gather
from app.lookalike import Lookalike, open_lookalike
from app.pictures.keypoints import Pixels
from app.search import candidates
from app.search.query import Query, Term
from app.settings import read_settings
from bench.photos import SIZE, make_photos
from training.data.procedural import dead_leaves, fractal_noise

CANDIDATES, SHOWN = 10, 20
QUERIES, ROUNDS = 12, 8
LEAVES = 40
INDEXED, INDEXING_ROUNDS = 160, 5


def jpeg(image: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def altered(data: bytes) -> bytes:
    """Return a photo without its edge, reduced and compressed."""
    with Image.open(BytesIO(data)) as photo:
        cut = ImageOps.crop(photo, round(min(photo.size) * 0.05))
        return jpeg(ImageOps.scale(cut, 0.7), 60)


def pictures(number: int, make: Callable[[np.random.Generator, int], Pixels]) -> list[bytes]:
    """Return procedural pictures, as large as the photos, of which each is another."""
    rng = np.random.default_rng(0)
    made = [Image.fromarray(make(rng, SIZE[0])).crop((0, 0, *SIZE)) for _ in range(number)]
    return [jpeg(image, 90) for image in made]


async def near_enough(lookalike: Lookalike, query: Query) -> int:
    """Return how many of the nearest images are near enough to be compared."""
    results = await lookalike.searcher.search(replace(query, verified=False, min_similarity=-1))
    floor = candidates.FLOORS["builtin"]
    near = [hit for hit in results.hits if hit.similarity is not None and hit.similarity >= floor]
    return min(len(near), candidates.MOST_VERIFIED)


async def copies(lookalike: Lookalike, query: Query) -> int:
    """Return how many of the results are proved to be copies."""
    results = await lookalike.searcher.search(replace(query, verified=True))
    return sum(hit.match == "copy" for hit in results.hits)


async def took(lookalike: Lookalike, query: Query) -> float:
    """Return the ms that a search takes."""
    start = perf_counter()
    await lookalike.searcher.search(query)
    return (perf_counter() - start) * 1000


async def compare(lookalike: Lookalike, name: str, images: list[bytes]) -> None:
    """Print the medians of what queries take, and of the differences between neighbours."""
    queries = [Query([Term(data)], limit=SHOWN) for data in images]
    compared = [await near_enough(lookalike, query) for query in queries]
    found = [await copies(lookalike, query) for query in queries]
    ways = {
        "without": {"verified": False},
        "verified": {"verified": True},
        "thorough": {"thorough": True},
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for query in queries:
            for way, asked in ways.items():
                times[way].append(await took(lookalike, replace(query, **asked)))
    plain = times["without"]
    print(f"\n{name}: {median(compared):g} compared, {median(found):g} of them copies (medians)")
    print(f"  {'without':10}{median(plain):8.1f} ms")
    for way in ("verified", "thorough"):
        more = [a - b for a, b in zip(times[way], plain, strict=True)]
        ratio = median(times[way]) / median(plain)
        print(f"  {way:10}{median(more):8.1f} ms more, {ratio:.2f} times as long")


async def indexing(lookalike: Lookalike, photos: list[bytes]) -> None:
    """Print how much longer indexing takes while keypoints are made."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(INDEXING_ROUNDS):
        for beside in (False, True):
            for image in await lookalike.catalog.newest(limit=len(photos)):
                await lookalike.indexer.delete([image])
            making = asyncio.create_task(lookalike.keypoint_maker.run()) if beside else None
            start = perf_counter()
            await gather([lookalike.indexer.upsert_upload(data, title="") for data in photos])
            times[beside].append(perf_counter() - start)
            if making is not None:
                making.cancel()
                with suppress(asyncio.CancelledError):
                    await making
    ratios = [a / b for a, b in zip(times[True], times[False], strict=True)]
    rate = len(photos) / median(times[False])
    print(f"\nindexing: {rate:.0f} images per second without keypoints")
    print(f"  {median(ratios):.2f} times as long while they are made")


async def main(number: int) -> None:
    # So many of the nearest are compared in a search; 20 in the server.
    candidates.MOST_VERIFIED = CANDIDATES
    photos = make_photos(number)
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings(
            data_dir=Path(folder), encoder="builtin", database_url=None, verify_ms=10_000
        )
        async with open_lookalike(settings, announce=lambda _: None) as lookalike:
            upload = lookalike.indexer.upsert_upload
            # Alike enough to be compared, so that each has nine others near.
            leaves = pictures(LEAVES, dead_leaves)
            await gather([upload(data, title="") for data in [*photos, *leaves]])
            while await lookalike.keypoint_maker.make_some():
                pass
            await compare(lookalike, "all alike", [altered(data) for data in photos[:QUERIES]])
            await compare(lookalike, "one alike", [altered(data) for data in leaves[:QUERIES]])
            await compare(lookalike, "none alike", pictures(QUERIES, fractal_noise))
            await indexing(lookalike, photos[:INDEXED])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400))
