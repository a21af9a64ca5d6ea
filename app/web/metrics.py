"""`/metrics`: what the server counts, in Prometheus' format.

What requests do is counted here. Everything else is read from the parts of the program, which count
for themselves and know nothing of Prometheus, whenever someone asks.
"""

import asyncio
from collections.abc import Iterable, Iterator
from time import monotonic, perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.encoding.encoder import Batcher
from app.encoding.tally import Tally
from app.lookalike import Lookalike
from app.problems import NotAllowed, Problem
from app.settings import VERSION
from app.store.job_states import job_states
from app.store.milvus.stats import MilvusStats
from app.web.access import require
from app.web.clients import client_of
from app.web.request_log import route_of

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# What is counted in the database is counted again after this long.
KEPT_S = 10


class RequestMetrics:
    """Counts requests, those in flight, and how long they took.

    The labels have few values, whatever clients send: one of seven methods or `other`, the template
    of the route (`-` without one), and the class of the status.
    """

    def __init__(self, app: ASGIApp, *, metrics: "Metrics") -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = perf_counter(), "-"

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = f"{message['status'] // 100}xx"
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_counted)
            finally:
                method = scope["method"] if scope["method"] in METHODS else "other"
                labels = self._metrics.requests.labels(method, route_of(scope), status)
                labels.observe(perf_counter() - start)


class Metrics:
    """The metrics of one server or worker, in a registry of their own."""

    def __init__(self, lookalike: Lookalike) -> None:
        self._registry = CollectorRegistry()
        self.requests = Histogram(
            "lookalike_request_seconds",
            "Requests, and how long they took.",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "lookalike_requests_in_flight",
            "Requests that are being answered, event streams among them.",
            registry=self._registry,
        )
        self._parts = _Parts(lookalike)
        self._registry.register(self._parts)
        ProcessCollector(registry=self._registry)

    async def show(self, request: Request) -> Response:
        """Answer with all metrics; raises what `require` does."""
        _check_reader(request)
        await self._parts.refresh()
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


def _check_reader(request: Request) -> None:
    """Raise a problem unless the client is on this machine or has the scope `admin`."""
    client = client_of(request.scope)
    if client.is_local:
        return
    if client.key is None and not client.may_use_key:
        raise NotAllowed("Only clients on the server's own machine may read its metrics.")
    require(client, "admin")


class _Parts(Collector):
    """Reads what the parts of the program have counted.

    Collecting is synchronous, so `refresh` asks the database before.
    """

    def __init__(self, lookalike: Lookalike) -> None:
        self._lookalike = lookalike
        self._asking = asyncio.Lock()
        self._asked_at = -float("inf")
        self._stored: list[Metric] = []

    async def refresh(self) -> None:
        """Count what is in the database, unless that was done a moment ago."""
        async with self._asking:
            if monotonic() - self._asked_at < KEPT_S:
                return
            up = _gauge("database_up", "Whether the database answers.", 1)
            try:
                self._stored = [up, *await self._count()]
            except Problem:
                up.samples.clear()
                up.add_metric([], 0)
                self._stored = [up]
            self._asked_at = monotonic()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are known only once there is something to count."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all parts."""
        lookalike = self._lookalike
        spaces, database = lookalike.index.spaces, lookalike.database
        encoder = spaces.semantic.encoder
        yield InfoMetricFamily(
            "lookalike",
            "The version and the encoders in use.",
            {
                "version": VERSION,
                "encoder": encoder.model.name,
                "precision": encoder.model.precision,
                "copy_encoder": spaces.copy.name,
            },
        )
        searches, fetches = lookalike.searcher.searches, lookalike.fetcher.outcomes
        yield _counter("searches", "Searches, by kind.", "kind", searches)
        yield _counter("fetches", "Fetched URLs, by outcome.", "outcome", fetches)
        towers: dict[str, Batcher[Any]] = {"image": encoder.images, "text": encoder.texts}
        if not spaces.are_one:
            towers["copy"] = spaces.copy.encoder.images
        yield _histogram(
            "encoder_batch_size",
            "Images or texts per call of the encoder.",
            {name: tower.sizes for name, tower in towers.items()},
        )
        yield _histogram(
            "encoder_batch_seconds",
            "How long the calls of the encoder took.",
            {name: tower.seconds for name, tower in towers.items()},
        )
        yield _gauge(
            "database_connections_in_use",
            "Connections of the pool that are in use.",
            database.connections_in_use,
        )
        yield _gauge(
            "database_connections_most",
            "Connections that the pool may open.",
            database.most_connections,
        )
        # Workers do not read it.
        if database.replica and database.replica.is_watched:
            status = database.replica.status
            yield _gauge(
                "replica_in_use", "Whether searches read the replica.", status.state == "in use"
            )
            if status.lag_s is not None:
                yield _gauge(
                    "replica_lag_seconds", "The age of what the replica may lack.", status.lag_s
                )
            reads = database.replica.reads
            yield _counter("search_reads", "Searches, by the database.", "database", reads)
        yield from self._stored

    async def _count(self) -> list[Metric]:
        lookalike = self._lookalike
        states = await job_states(lookalike.database)
        jobs = GaugeMetricFamily("lookalike_jobs", "Jobs, by state.", labels=["state"])
        for state, number in states.jobs.items():
            jobs.add_metric([state], number)
        rows = GaugeMetricFamily(
            "lookalike_table_rows", "Rows, above 10,000 as Postgres estimates.", labels=["table"]
        )
        size = GaugeMetricFamily(
            "lookalike_table_bytes", "Bytes of tables with their indexes.", labels=["table"]
        )
        for table in await lookalike.sizes.tables():
            rows.add_metric([table.name], table.rows.number)
            size.add_metric([table.name], table.bytes)
        waiting = _gauge("job_items_waiting", "Images that wait for a worker.", states.waiting)
        return [jobs, waiting, rows, size, *_of_milvus(await lookalike.index.milvus_stats())]


def _of_milvus(stats: MilvusStats | None) -> list[Metric]:
    if stats is None:
        return []
    waiting = "Changed vectors that Milvus was not told of yet."
    settling = "Changed vectors that Milvus may not find yet, and that searches compare."
    return [
        _gauge("milvus_up", "Whether Milvus answers.", float(stats.answers)),
        _gauge("milvus_outbox_waiting", waiting, stats.waiting),
        _gauge("milvus_outbox_settling", settling, stats.settling),
    ]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lookalike_{name}", text, value)


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"lookalike_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _histogram(name: str, text: str, tallies: dict[str, Tally]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"lookalike_{name}", text, labels=["tower"])
    for tower, tally in tallies.items():
        counts, total = tally.read()
        bounds = [*map(str, map(float, tally.bounds)), "+Inf"]
        buckets = [(bound, float(sum(counts[: i + 1]))) for i, bound in enumerate(bounds)]
        family.add_metric([tower], buckets, total)
    return family
