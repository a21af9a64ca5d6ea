"""Indexing from URL to row, compared with the encoder alone and the stock recipe.

`make bench-index` runs them in turns on the same photos, served on loopback by a separate process.
"""

import asyncio
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from llama_index.vector_stores.postgres import PGVectorStore

from app.lookalike import Lookalike, open_lookalike
from app.pictures.decoding import decode
from app.settings import Settings, read_settings
from app.store.database import open_database
from app.store.images import Entry
from app.store.items import NewItem
from bench.photos import make_photos, serving
from bench.vit import write_vit_b32

ROUNDS = 3
PHOTOS = {"builtin": 1200, "ViT-B/32": 400}
STOCK_PHOTOS = 60
BATCH = 16


def inference_rate(lookalike: Lookalike, photos: list[bytes]) -> float:
    """Return images per second of the model alone, on preprocessed images in full batches."""
    model = lookalike.encoder.model
    prepared = [model.prepare(decode(data, max_pixels=10**8).image) for data in photos[:BATCH]]
    model.embed_images(prepared)
    start, batches = perf_counter(), max(1, len(photos) // BATCH)
    for _ in range(batches):
        model.embed_images(prepared)
    return batches * BATCH / (perf_counter() - start)


async def encoder_rate(lookalike: Lookalike, photos: list[bytes]) -> float:
    """Return images per second of the encoder: decoded images in, vectors out."""
    images = [decode(data, max_pixels=10**8).image for data in photos[: 8 * BATCH]]
    start = perf_counter()
    await asyncio.gather(*(lookalike.encoder.embed_image(image) for image in images))
    return len(images) / (perf_counter() - start)


async def pipeline_rate(lookalike: Lookalike, urls: list[str]) -> float:
    """Return images per second of a job, from its URLs to its rows."""
    for image in await lookalike.catalog.newest(limit=len(urls)):
        await lookalike.indexer.delete([image])
    start = perf_counter()
    items = [NewItem("web", Entry(url)) for url in urls]
    job_id = await lookalike.jobs.create("bench", items)
    counts = [progress.counts async for progress in lookalike.jobs.watch(job_id)]
    taken = perf_counter() - start
    assert counts[-1] == {"indexed": len(urls)}, counts[-1]
    return len(urls) / taken


async def take_turns(
    lookalike: Lookalike, photos: list[bytes], note: Callable[[str, float], None]
) -> None:
    with serving(photos) as urls:
        async with lookalike.jobs.working():
            for _ in range(ROUNDS):
                note("model", inference_rate(lookalike, photos))
                note("encoder", await encoder_rate(lookalike, photos))
                note("pipeline", await pipeline_rate(lookalike, urls))


async def measure(settings: Settings, photos: list[bytes]) -> dict[str, float]:
    best: dict[str, float] = {}

    def note(name: str, rate: float) -> None:
        best[name] = max(best.get(name, 0), rate)

    async with open_lookalike(settings, announce=lambda _: None) as lookalike:
        await take_turns(lookalike, photos, note)
    return best


def stock_rate(settings: Settings, photos: list[bytes]) -> float:
    from bench import stock

    database = open_database(settings)
    store = PGVectorStore(
        table_name="stock",
        embed_dim=512,
        engine=database.sync_engine,
        async_engine=database.engine,
        create_engine_kwargs={},
    )
    with serving(photos) as urls:
        best = max(stock.rate(urls, store) for _ in range(ROUNDS))
    database.close_set_up()
    return best


def all_rates() -> tuple[dict[str, dict[str, float]], float | None]:
    """Return the rates of our encoders, and that of the stock recipe if torch is installed."""
    photos = make_photos(max(PHOTOS.values()))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoders: dict[str, Callable[[], str]] = {
            "builtin": lambda: "builtin",
            "ViT-B/32": lambda: str(write_vit_b32(folder / "vit-b-32")),
        }
        rates: dict[str, dict[str, float]] = {}
        for name, encoder in encoders.items():
            settings = read_settings(
                data_dir=folder / name.replace("/", "-"),
                encoder=encoder(),
                copy_encoder="off",
                fetch_allow=["127.0.0.1"],
                database_url=None,
            )
            rates[name] = asyncio.run(measure(settings, photos[: PHOTOS[name]]))
        stock = None
        if find_spec("torch"):
            stock = stock_rate(settings, photos[:STOCK_PHOTOS])
    return rates, stock


def rows() -> list[tuple[str, str, str]]:
    """Return what `make bench` shows of it."""
    rates, stock = all_rates()
    found = [
        (
            f"indexing, {name}, images/s",
            f"{rate['pipeline']:.0f}",
            f"{rate['pipeline'] / rate['encoder']:.0%} of the encoder, "
            f"{rate['pipeline'] / rate['model']:.0%} of the model",
        )
        for name, rate in rates.items()
    ]
    if stock is not None:
        ratio = f"ours is {rates['ViT-B/32']['pipeline'] / stock:.1f} times as fast"
        found.append(("stock recipe, ViT-B/32, images/s", f"{stock:.1f}", ratio))
    return found


def main() -> None:
    rates, stock = all_rates()
    print("images per second, the best of three rounds that take turns\n")
    print(f"{'':10}{'model':>10}{'encoder':>10}{'pipeline':>10}{'of model':>10}{'of encoder':>12}")
    for name, rate in rates.items():
        print(
            f"{name:10}{rate['model']:10.0f}{rate['encoder']:10.0f}{rate['pipeline']:10.0f}"
            f"{rate['pipeline'] / rate['model']:10.0%}{rate['pipeline'] / rate['encoder']:12.0%}"
        )
    print("\nmodel: preprocessed images in full batches; encoder: decoded images in, vectors out")
    if stock is None:
        print("The stock recipe needs torch: `make bench-index` installs it.")
    else:
        ratio = rates["ViT-B/32"]["pipeline"] / stock
        print(f"stock recipe, ViT-B/32: {stock:.1f} per second; ours is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
