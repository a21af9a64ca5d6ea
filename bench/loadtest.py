"""`make loadtest`: many clients at once, on a server and data of its own.

Searches, upserts, uploads, jobs and pages are mixed. Fails if anything but success, 429 or 503 is
answered, if /healthz is not, or if the server does not recover.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from bench.photos import make_photos, serving
from bench.server import Process, async_client_of, serve, show

FINE = {200, 202, 303, 429, 503}
# Of what clients do; the rest are searches by image.
SHARES = {"text": 0.15, "upsert": 0.12, "upload": 0.08, "job": 0.02, "page": 0.08, "list": 0.05}
TEXTS = ("a cat", "a rocket at night", "coffee", "an old photo of a face", "stones and grass")
HEALTH_S = 0.1
RECOVERY_S = 120

Send = Callable[[httpx.AsyncClient, random.Random], Awaitable[httpx.Response]]


class Load:
    """What was sent, and what became of it."""

    def __init__(self, photos: list[bytes], urls: list[str]) -> None:
        self._photos = photos
        self._urls = urls
        self._numbers = iter(range(10**9))
        self.statuses: dict[str, Counter[int | str]] = defaultdict(Counter)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.jobs: list[int] = []

    async def client(self, url: str, seed: int, until: float) -> None:
        """Be one client, which sends its next request when it has its answer."""
        rng = random.Random(seed)  # noqa: S311
        async with async_client_of(url) as client:
            while perf_counter() < until:
                kinds, weights = list(SHARES), list(SHARES.values())
                kind = rng.choices([*kinds, "image"], [*weights, 1 - sum(weights)])[0]
                await self.send(kind, client, rng)

    async def send(self, kind: str, client: httpx.AsyncClient, rng: random.Random) -> None:
        start = perf_counter()
        try:
            answer = await getattr(self, f"_{kind}")(client, rng)
        except httpx.HTTPError as exc:
            self.statuses[kind][type(exc).__name__] += 1
            return
        self.statuses[kind][answer.status_code] += 1
        self.seconds[kind].append(perf_counter() - start)
        if answer.status_code in (429, 503):
            # As a client should, but shorter than Retry-After asks: this is a test under load.
            await asyncio.sleep(0.2)

    def new_url(self, rng: random.Random) -> str:
        return f"{rng.choice(self._urls)}?{next(self._numbers)}"

    async def _image(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        return await client.post("/api/query", files={"file": rng.choice(self._photos)})

    async def _text(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        return await client.post("/api/search", json={"text": rng.choice(TEXTS), "limit": 20})

    async def _upsert(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        urls = [self.new_url(rng) for _ in range(rng.randint(1, 5))]
        return await client.post("/api/upsert", json={"images": urls})

    async def _upload(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        # Bytes behind the end of a JPEG make it another file.
        data = rng.choice(self._photos) + str(next(self._numbers)).encode()
        return await client.post("/api/images", files={"file": ("photo.jpg", data)})

    async def _job(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        urls = [self.new_url(rng) for _ in range(20)]
        prefer = {"prefer": "respond-async"}
        answer = await client.post("/api/upsert", json={"images": urls}, headers=prefer)
        if answer.status_code == 202:
            self.jobs.append(answer.json()["id"])
        return answer

    async def _page(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        return await client.get(rng.choice(["/", "/index", f"/?q={rng.choice(TEXTS)}"]))

    async def _list(self, client: httpx.AsyncClient, rng: random.Random) -> Any:
        return await client.get("/api/images", params={"limit": 20})


async def ask_health(url: str, seconds: float) -> list[float]:
    """Ask /healthz ten times a second; return how long each answer took, inf for none."""
    found: list[float] = []
    async with async_client_of(url) as client:
        until = perf_counter() + seconds
        while perf_counter() < until:
            start = perf_counter()
            try:
                fine = (await client.get("/healthz")).status_code == 200
            except httpx.HTTPError:
                fine = False
            found.append(perf_counter() - start if fine else float("inf"))
            await asyncio.sleep(HEALTH_S)
    return found


async def sample_memory(process: Process, seconds: float) -> list[float]:
    """Return the process's memory in MB, once a second."""
    found: list[float] = []
    for _ in range(round(seconds)):
        found.append(process.resident_mb())
        await asyncio.sleep(1)
    return found


async def recover(url: str, load: Load) -> tuple[float, float]:
    """Return the seconds until the server is ready and quick, and until all jobs have ended."""
    start, rng = perf_counter(), random.Random(0)  # noqa: S311
    quick = None
    async with async_client_of(url) as client:
        while perf_counter() - start < RECOVERY_S:
            asked = perf_counter()
            ready = (await client.get("/readyz")).status_code == 200
            await load.send("image", client, rng)
            if quick is None and ready and perf_counter() - asked < 1:
                quick = perf_counter() - start
            jobs = [(await client.get(f"/api/jobs/{job}")).json() for job in load.jobs]
            if quick is not None and all(job["state"] != "running" for job in jobs):
                return quick, perf_counter() - start
            await asyncio.sleep(0.5)
    return quick or float("inf"), float("inf")


def percentile(values: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


async def measure(url: str, process: Process, load: Load, clients: int, seconds: float) -> bool:
    """Load the server, print what happened, and return whether all is as promised."""
    rng = random.Random(1)  # noqa: S311
    async with async_client_of(url) as client:
        for _ in range(10):
            await load.send("upsert", client, rng)
            await load.send("image", client, rng)
            await load.send("text", client, rng)
    idle = await ask_health(url, 3)
    before = process.resident_mb()
    load.statuses.clear()
    load.seconds.clear()
    until = perf_counter() + seconds
    health, memory, *_ = await asyncio.gather(
        ask_health(url, seconds),
        sample_memory(process, seconds),
        *(load.client(url, seed, until) for seed in range(clients)),
    )
    statuses = {kind: Counter(counts) for kind, counts in load.statuses.items()}
    quick, ended = await recover(url, load)
    after = process.resident_mb()
    rows: list[tuple[object, ...]] = []
    for kind, counts in sorted(statuses.items()):
        done = [value for status, value in counts.items() if status not in (429, 503)]
        times = load.seconds[kind]
        others = {str(status): n for status, n in counts.items() if status not in FINE}
        rows.append(
            (
                kind,
                f"{sum(done) / seconds:.1f}",
                counts[429],
                counts[503],
                others or "-",
                f"{percentile(times, 0.5):.0f}",
                f"{percentile(times, 0.95):.0f}",
            )
        )
    show(rows, "requests", "per second", "429", "503", "others", "p50 ms", "p95 ms")
    print()
    facts: list[tuple[object, ...]] = [
        ("/healthz, idle: p95 ms", f"{percentile(idle, 0.95):.0f}"),
        ("/healthz, under load: p95 ms", f"{percentile(health, 0.95):.0f}"),
        ("/healthz, under load: longest, ms", f"{max(health) * 1000:.0f}"),
        ("memory before, MB", f"{before:.0f}"),
        ("memory under load: most, MB", f"{max(memory):.0f}"),
        ("memory: last third over middle third", f"{growth(memory):+.0%}"),
        ("memory after, MB", f"{after:.0f}"),
        ("ready and quick again after, s", f"{quick:.1f}"),
        (f"{len(load.jobs)} jobs ended after, s", f"{ended:.1f}"),
    ]
    show(facts, f"{clients} clients for {seconds:g} s", "")
    bad = {str(s): n for counts in statuses.values() for s, n in counts.items() if s not in FINE}
    unhealthy = float("inf") in health
    return not bad and not unhealthy and ended < RECOVERY_S


def growth(memory: list[float]) -> float:
    """Return by how much the memory of the last third exceeds that of the middle third."""
    third = len(memory) // 3
    if not third:
        return 0.0
    middle, last = memory[third : 2 * third], memory[2 * third :]
    return (sum(last) / len(last)) / (sum(middle) / len(middle)) - 1


def main() -> None:
    """Run the load test; the exit code is 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    photos = make_photos(200)
    with tempfile.TemporaryDirectory(prefix="lookalike-load-") as folder, serving(photos) as urls:
        # So that everything is stopped on the way out; the server of photos is a fork of this.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        process, url = serve(Path(folder))
        try:
            load = Load(photos, urls)
            kept = asyncio.run(measure(url, process, load, arguments.clients, arguments.seconds))
        finally:
            code = process.stop()
    if not kept or code:
        print("\n".join(["", f"Not as promised (the server's exit code: {code}):", *process.log]))
        sys.exit(1)


if __name__ == "__main__":
    main()
