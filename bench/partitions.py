"""One table of vectors or several by hash of the id: `python -m bench.partitions DATA`.

Of each, in an embedded Postgres of its own: how long HNSW takes to build, its bytes, how long a
search for the ten nearest takes and what it misses of them at the same `ef_search`, how long one
takes that must be as good, and how many rows per second are written into the index. DATA are photos
in folders or tar files, on which vectors are fitted (docs/scale.md has the finding).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from app.encoding.encoder import Encoder
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.store.embedded import embedded_server
from app.store.halfvec import Half, halfvec_bytes
from bench.scale_vectors import Mixture
from bench.server import show

BATCH, LIMIT, WRITTEN = 5_000, 10, 500
M, EF_CONSTRUCTION = 16, 64
# Of a graph while it is built; `maintenance_work_mem` is in kilobytes.
KB_PER_ROW = 3
EFS = (20, 40, 80)


class Layout:
    """A table in so many partitions (1: in none), with an HNSW index of each."""

    def __init__(self, connection: psycopg.Connection, partitions: int, dimensions: int) -> None:
        self.connection, self.partitions = connection, partitions
        self.name = f"vectors_{partitions}"
        by = "PARTITION BY HASH (id)" if partitions > 1 else ""
        self._run(f"DROP TABLE IF EXISTS {self.name}")
        self._run(
            f"CREATE TABLE {self.name} (id uuid PRIMARY KEY, v halfvec({dimensions}) NOT NULL) {by}"
        )
        for part in range(partitions) if by else ():
            self._run(
                f"CREATE TABLE {self.name}_{part} PARTITION OF {self.name} "
                f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {part})"
            )

    def write(self, vectors: Any, batch: int) -> None:
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY {self.name} (id, v) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            copy.set_types(["uuid", "bytea"])
            for place, vector in enumerate(vectors):
                copy.write_row((_id(batch, place), halfvec_bytes(vector)))

    def build(self) -> float:
        start = perf_counter()
        self._run(
            f"CREATE INDEX ON {self.name} USING hnsw (v halfvec_cosine_ops) "
            f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        seconds = perf_counter() - start
        self._run(f"VACUUM ANALYZE {self.name}")
        return seconds

    def index_bytes(self) -> int:
        query = (
            "SELECT sum(pg_relation_size(indexrelid)) FROM pg_index JOIN pg_class ON oid = "
            "indexrelid JOIN pg_am ON pg_am.oid = relam WHERE amname = 'hnsw' AND relkind = 'i' "
            f"AND indrelid::regclass::text ~ '^{self.name}(_[0-9]+)?$'"
        )
        return int((self.connection.execute(query.encode()).fetchone() or [0])[0])

    def nearest(self, vector: Any, *, ef: int | None) -> list[UUID]:
        """Return the ten nearest; without `ef`, by comparing every row."""
        with self.connection.transaction():
            self._run(f"SET LOCAL enable_{'seqscan' if ef else 'indexscan'} = off")
            self._run(f"SET LOCAL hnsw.ef_search = {ef or 40}")
            rows = self.connection.execute(
                f"SELECT id FROM {self.name} ORDER BY v <=> %b::halfvec LIMIT {LIMIT}".encode(),
                (Half(vector),),
            )
            return [row[0] for row in rows]

    def _run(self, statement: str) -> None:
        self.connection.execute(statement.encode())


def measured(layout: Layout, mixture: Mixture, rows: int, queries: Any) -> dict[str, Any]:
    for batch in range(rows // BATCH):
        layout.write(mixture.rows(batch, BATCH), batch)
    found: dict[str, Any] = {"building it, seconds": round(layout.build(), 1)}
    found["bytes of the index per row"] = round(layout.index_bytes() / rows)
    right = [set(layout.nearest(query, ef=None)) for query in queries]
    for ef in EFS:
        times: list[float] = []
        recalled = 0
        for query, ids in zip(queries, right, strict=True):
            # With its pages in memory.
            for timed in (False, True):
                start = perf_counter()
                near = layout.nearest(query, ef=ef)
                if timed:
                    times.append(1000 * (perf_counter() - start))
            recalled += len(ids & set(near))
        found[f"ef_search {ef}: median, ms"] = round(float(np.median(times)), 1)
        found[f"ef_search {ef}: recall of the ten nearest"] = round(
            recalled / LIMIT / len(queries), 3
        )
    start = perf_counter()
    for batch in range(WRITTEN // 100):
        layout.write(mixture.rows(1_000_000 + batch, 100), 1_000_000 + batch)
    found["rows written per second into the index"] = round(WRITTEN / (perf_counter() - start))
    return found


def _id(batch: int, place: int) -> UUID:
    # As mixed as the ids of images are.
    return UUID(bytes=np.random.default_rng((4, batch, place)).bytes(16))


def _mixture(photos: Sequence[Path], kept: Path) -> Mixture:
    encoder = Encoder(OnnxModel(BUILTIN_DIRECTORY, name="builtin"), source="builtin")
    try:
        return Mixture.fitted(encoder, photos, kept)
    finally:
        encoder.close()


def main(photos: list[Path], rows: int, queries: int, parts: list[int], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mixture = _mixture(photos, folder / "mixture.npz")
    asked = mixture.queries(0, BATCH, queries)
    server = embedded_server(folder / "postgres")
    try:
        results: dict[int, dict[str, Any]] = {}
        # Nothing is prepared: a plan that is kept would be that of the exact search.
        connecting = psycopg.connect(server.get_uri(), autocommit=True, prepare_threshold=None)
        with connecting as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            # A graph that does not fit is finished on disk, many times as slowly.
            connection.execute(
                f"SET maintenance_work_mem = {max(KB_PER_ROW * rows, 2**20)}".encode()
            )
            for partitions in parts:
                layout = Layout(connection, partitions, asked.shape[1])
                results[partitions] = measured(layout, mixture, rows, asked)
                print(partitions, results[partitions], flush=True)
    finally:
        server.cleanup()
    names = list(next(iter(results.values())))
    table = [(name, *(results[p][name] for p in parts)) for name in names]
    show(table, f"{rows} rows", *(f"{p} tables" if p > 1 else "one table" for p in parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--data-dir", type=Path, default=Path("data/bench-partitions"))
    given = parser.parse_args()
    main(given.photos, given.rows, given.queries, given.partitions, given.data_dir)
