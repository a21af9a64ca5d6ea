"""`make faults`: end everything with kill -9, again and again, and look for what is lost.

A server with its own Postgres, and a worker beside it, are ended in turns while clients index.
Afterwards every image that was acknowledged must be there, with its vector and, if it was
uploaded, its original; and every item of every job must have ended exactly once. As root, the
storage of uploads is also filled up and made read-only.
"""

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

import httpx
import psycopg

from bench.photos import make_photos, serving
from bench.server import Process, async_client_of, client_of, serve, show

CLIENTS = 6
ITEMS_PER_JOB = 40
ENDS = ("server", "worker", "Postgres", "server and Postgres", "everything")
BACK_S = 120
LONGEST_WAIT_S = 600
WAITING = "SELECT count(*) FROM job_items WHERE state = 'waiting'"
# A record of its own of each time that an item ends, in the same transaction.
AUDIT = """
    CREATE TABLE IF NOT EXISTS ended_items (job_id bigint, position bigint);
    CREATE OR REPLACE FUNCTION note_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO ended_items VALUES (NEW.job_id, NEW.position);
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER note_ended AFTER UPDATE OF state ON job_items FOR EACH ROW
        WHEN (OLD.state = 'waiting' AND NEW.state <> 'waiting') EXECUTE FUNCTION note_ended();
"""


class Acknowledged:
    """What clients were told is done."""

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.uploads: dict[str, str] = {}
        self.jobs: dict[int, int] = {}
        self.answers: Counter[int | str] = Counter()


async def send(
    url: str, told: Acknowledged, photos: list[bytes], urls: list[str], seed: int
) -> None:
    """Be one client until cancelled: upserts, uploads and jobs of what is new."""
    rng = random.Random(seed)  # noqa: S311
    async with async_client_of(url) as client:
        number = 0
        while True:
            number += 1
            name = f"{seed}-{number}"
            try:
                await _send_one(client, rng, told, photos, urls, name)
            except httpx.HTTPError as exc:
                told.answers[type(exc).__name__] += 1
                await asyncio.sleep(0.05)


async def _send_one(
    client: httpx.AsyncClient,
    rng: random.Random,
    told: Acknowledged,
    photos: list[bytes],
    urls: list[str],
    name: str,
) -> None:
    kind = rng.random()
    if kind < 0.4:
        images = [f"{rng.choice(urls)}?{name}-{i}" for i in range(3)]
        answer = await client.post("/api/upsert", json={"images": images})
    elif kind < 0.8:
        data = rng.choice(photos) + name.encode()
        answer = await client.post("/api/images", files={"file": ("photo.jpg", data)})
    else:
        images = [f"{rng.choice(urls)}?{name}-{i}" for i in range(ITEMS_PER_JOB)]
        prefer = {"prefer": "respond-async"}
        answer = await client.post("/api/upsert", json={"images": images}, headers=prefer)
    told.answers[answer.status_code] += 1
    if answer.status_code == 202:
        told.jobs[answer.json()["id"]] = ITEMS_PER_JOB
    elif answer.status_code == 200:
        ids = [result["id"] for result in answer.json()["results"] if result["status"] != "failed"]
        told.images.update(ids)
        if 0.4 <= kind < 0.8:
            told.uploads.update(dict.fromkeys(ids, hashlib.sha256(data).hexdigest()))  # pyright: ignore[reportPossiblyUnboundVariable]


def postmaster(data: Path) -> tuple[int, str]:
    """Return the process id of the embedded Postgres, and its URL."""
    lines = (data / "postgres" / "postmaster.pid").read_text().splitlines()
    return int(lines[0]), f"postgresql://postgres@/postgres?host={lines[4]}"


def kill_postgres(data: Path) -> None:
    with suppress(FileNotFoundError, ProcessLookupError, IndexError):
        os.kill(postmaster(data)[0], signal.SIGKILL)


class Cluster:
    """A server with its own Postgres, and a worker beside it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.server, self.url = serve(data)
        self.port = int(self.url.rpartition(":")[2])
        self.worker = self._start_worker()

    def end(self, what: str) -> None:
        """End what is named with kill -9."""
        if what in ("server", "server and Postgres", "everything"):
            self.server.kill()
        if what in ("worker", "everything"):
            self.worker.kill()
        if what in ("Postgres", "server and Postgres", "everything"):
            kill_postgres(self.data)

    def start_again(self, what: str) -> float:
        """Start what was ended; return the seconds until the server is ready."""
        start = perf_counter()
        if what not in ("worker", "Postgres"):
            self.server, _ = serve(self.data, port=self.port)
        if what in ("worker", "everything"):
            self.worker = self._start_worker()
        with client_of(self.url) as client:
            while perf_counter() - start < BACK_S:
                with suppress(httpx.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        return perf_counter() - start
        raise SystemExit("\n".join(["The server does not come back:", *self.server.log]))

    def stop(self) -> int:
        """Stop both as an operator does; return their exit codes, added."""
        return self.worker.stop() + self.server.stop()

    def _start_worker(self) -> Process:
        settings = {"FETCH_ALLOW": "127.0.0.1", "RETRY_S": "0.2", "WORKER_TIMEOUT_S": "3"}
        worker = Process("worker", DATA_DIR=str(self.data), **settings)
        worker.wait_for("Working on jobs")
        return worker


async def run_round(
    cluster: Cluster, told: Acknowledged, photos: list[bytes], urls: list[str], number: int
) -> tuple[str, float, float]:
    """End something while clients index; return what, when, and how long it was away."""
    what = ENDS[number % len(ENDS)]
    clients = [
        asyncio.create_task(send(cluster.url, told, photos, urls, 1000 * number + i))
        for i in range(CLIENTS)
    ]
    after = random.Random(number).uniform(0.3, 4)  # noqa: S311
    await asyncio.sleep(after)
    await asyncio.to_thread(cluster.end, what)
    away = await asyncio.to_thread(cluster.start_again, what)
    await asyncio.sleep(2)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return what, after, away


def wait_for_jobs(database: str) -> float:
    """Wait until all jobs have ended, also those whose answer was lost; return how long it took.

    After ten minutes, what still waits is left for `wrong_items` to find.
    """
    start = perf_counter()
    with psycopg.connect(database, autocommit=True) as connection:
        while perf_counter() - start < LONGEST_WAIT_S:
            if connection.execute(WAITING).fetchone() == (0,):
                break
            signal.sigtimedwait([], 0.25)
    return perf_counter() - start


def lost(client: httpx.Client, told: Acknowledged) -> Counter[str]:
    """Return what is missing of what was acknowledged."""

    def without_row(image: str) -> bool:
        return client.get(f"/api/images/{image}").status_code != 200

    def without_vector(image: str) -> bool:
        query = {"query": [{"id": image}], "limit": 1}
        return client.post("/api/search", json=query).status_code != 200

    def without_original(image: str) -> bool:
        original = client.get(f"/images/{image}/original")
        whole = hashlib.sha256(original.content).hexdigest() == told.uploads[image]
        return original.status_code != 200 or not whole

    with ThreadPoolExecutor(CLIENTS) as threads:
        return Counter(
            images=sum(threads.map(without_row, told.images)),
            vectors=sum(threads.map(without_vector, told.images)),
            originals=sum(threads.map(without_original, told.uploads)),
        )


def wrong_items(database: str, jobs: dict[int, int]) -> Counter[str]:
    """Return how many items did not end, ended more than once, or have no image."""
    queries = {
        "did not end": WAITING,
        "ended more than once": "SELECT count(*) FROM (SELECT 1 FROM ended_items "
        "GROUP BY job_id, position HAVING count(*) > 1) AS twice",
        "failed": "SELECT count(*) FROM job_items WHERE state = 'failed'",
        "without image": "SELECT count(*) FROM job_items LEFT JOIN images ON images.id = image_id "
        "WHERE state IN ('indexed', 'updated', 'unchanged') AND images.id IS NULL",
    }
    found: Counter[str] = Counter()
    with psycopg.connect(database) as connection:
        for name, query in queries.items():
            row = connection.execute(query).fetchone()  # pyright: ignore[reportArgumentType]
            found[name] = row[0] if row else 0
        for job, items in jobs.items():
            row = connection.execute("SELECT count(*) FROM job_items WHERE job_id = %s", [job])
            found["missing"] += items - (row.fetchone() or [0])[0]
    return found


@contextmanager
def small_disk(folder: Path) -> Generator[Path | None]:
    """A disk of 2 MB, None if this user may not make one."""
    place = folder / "small"
    place.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    done = subprocess.run(size, capture_output=True, check=False)
    try:
        yield None if done.returncode else place
    finally:
        if not done.returncode:
            subprocess.run(["umount", str(place)], check=False)


def full_disk(folder: Path, photos: list[bytes]) -> list[tuple[object, ...]]:
    """Fill the storage of uploads, and make it read-only; return what is answered."""
    data = folder / "full"
    data.mkdir()
    with small_disk(folder) as disk:
        if disk is None:
            return [("not measured: a small disk needs root",) * 4]
        server, url = serve(data, MEDIA_URL=str(disk))
        try:
            with client_of(url) as client:
                rows = [("free", *_answers(client, photos[0] + b"1"))]
                (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
                rows.append(("full", *_answers(client, photos[0] + b"2")))
                (disk / "filler").unlink()
                rows.append(("free again", *_answers(client, photos[0] + b"3")))
                remount = ["mount", "-o", "remount,ro", str(disk)]
                subprocess.run(remount, check=True)
                rows.append(("read-only", *_answers(client, photos[0] + b"4")))
        finally:
            server.stop()
    return list(rows)


def _answers(client: httpx.Client, data: bytes) -> tuple[object, ...]:
    # What /readyz found is kept for 10 s.
    signal.sigtimedwait([], 10.5)
    upload = client.post("/api/images", files={"file": ("photo.jpg", data)})
    search = client.post("/api/query", files={"file": data})
    return upload.status_code, search.status_code, client.get("/readyz").status_code


def main() -> None:
    """Run the rounds; the exit code is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    photos = make_photos(100)
    told = Acknowledged()
    rows: list[tuple[object, ...]] = []
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-faults-") as name,
        serving(photos) as urls,
    ):
        # So that everything is stopped on the way out; the server of photos is a fork of this.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        folder = Path(name)
        # Postgres runs as another user if this one is root.
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir()
        cluster = Cluster(data)
        try:
            with psycopg.connect(postmaster(data)[1], autocommit=True) as connection:
                connection.execute(AUDIT)
            ended: dict[str, list[float]] = {}
            for number in range(rounds):
                what, _, away = asyncio.run(run_round(cluster, told, photos, urls, number))
                ended.setdefault(what, []).append(away)
                note = f"{number + 1} of {rounds}: {what} ended, ready again after {away:.1f} s"
                print(note, file=sys.stderr, flush=True)
            with client_of(cluster.url) as client:
                waited = wait_for_jobs(postmaster(data)[1])
                missing = lost(client, told)
            wrong = wrong_items(postmaster(data)[1], told.jobs)
        finally:
            code = cluster.stop()
        rows = [
            (what, len(times), f"{sorted(times)[len(times) // 2]:.1f}", f"{max(times):.1f}")
            for what, times in ended.items()
        ]
        show(rows, "ended with kill -9", "times", "ready again: median s", "longest s")
        print()
        checks: list[tuple[object, ...]] = [
            ("acknowledged images", len(told.images), missing["images"]),
            ("their vectors", len(told.images), missing["vectors"]),
            ("originals of uploads", len(told.uploads), missing["originals"]),
            *(
                (f"items of {len(told.jobs)} jobs: {name}", sum(told.jobs.values()), wrong[name])
                for name in ("missing", "did not end", "ended more than once", "without image")
            ),
        ]
        show(checks, "", "of", "lost or wrong")
        others = {str(k): v for k, v in told.answers.items() if k not in (200, 202)}
        print(
            f"\nOther answers: {others}; items that failed: {wrong['failed']}; "
            f"jobs ended {waited:.0f} s after the last fault; exit codes: {code}.\n"
        )
        show(full_disk(folder, photos), "storage of uploads", "upload", "search", "/readyz")
    if any(row[2] for row in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
