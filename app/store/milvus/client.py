"""A client of a Milvus: alone in importing pymilvus, which takes half a second."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from app.encoding.encoder import Vector
from app.logs import fields
from app.problems import MilvusUnavailable, MissingPackage, WrongSetting
from app.settings import Settings
from app.store.milvus.rows import MOST_LABELS, StoredRow, fields_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

CHECK_S, SEARCH_S, WRITE_S, SET_UP_S = 2.0, 5.0, 60.0, 120.0
# After a failure, nothing is asked for so long, so that who searches is not kept waiting.
PAUSE_S = 2.0
# Its own threads: while Milvus hangs, decoding and all else that needs one goes on.
THREADS = 8
# As with pgvector, but a build is longer, and recall is better where filters narrow the search.
HNSW_M, HNSW_EF_CONSTRUCTION = 16, 128
# Milvus' maximum of results.
MOST_RESULTS = 16_384
# Vectors of half precision came with this version.
FLOAT16_SINCE = (2, 4)
# Segments of fewer rows get no index, and each of their rows is compared.
LEAST_INDEXED = 1024
# Milvus' code for a value that it does not take.
INVALID = 1100


class Refused(Exception):  # noqa: N818 - of one row, and kept here
    """Milvus does not take a row as it is."""


@dataclass(frozen=True, slots=True)
class Brought:
    """The ids of rows near a vector, the nearest first.

    `reach` is the cosine distance, as Milvus has the vectors, up to which there are no others.
    """

    ids: Sequence[int]
    reach: float = float("inf")


class Milvus:
    """A Milvus server; its methods that are not `async` block.

    Nothing connects before it is asked for something. What fails raises `MilvusUnavailable`, and
    for `PAUSE_S` seconds everything raises it at once. After that the next call tries again, so
    that nothing has to be started again when Milvus comes back.
    """

    def __init__(self, url: str, *, token: str = "", database: str = "") -> None:
        self.url, self._token, self._database = url, token, database
        self._lock = Lock()
        self._client: Any = None
        self._types: dict[str, Any] = {}
        self._threads = ThreadPoolExecutor(THREADS, "milvus")
        self._failed_at = -float("inf")
        self.failure = ""

    @classmethod
    def of(cls, settings: Settings) -> "Milvus | None":
        """Return the Milvus of the settings, None if there is none.

        Raises `WrongSetting` if the kind of index needs one, and `MissingPackage`.
        """
        if settings.milvus_url is None:
            if settings.vector_index == "milvus":
                raise WrongSetting(
                    "VECTOR_INDEX=milvus needs MILVUS_URL, such as http://host:19530"
                )
            return None
        _check_package()
        token = settings.milvus_token.get_secret_value() if settings.milvus_token else ""
        return cls(settings.milvus_url, token=token, database=settings.milvus_database)

    def close(self) -> None:
        """Close the connection; nothing can be asked any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()
            self._client = None

    async def call(self, work: Callable[["Milvus"], T]) -> T:
        """Run one of the methods that block, in a thread."""
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(self._threads, lambda: context.run(work, self))

    def check(self) -> None:
        """Raise `MilvusUnavailable` unless Milvus answers."""
        self._ask(lambda client: client.list_collections(timeout=CHECK_S))

    def create(self, name: str, dimensions: int) -> None:
        """Create a collection of vectors of unit length, and load it."""

        def create(client: Any) -> None:
            from pymilvus import DataType

            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field(
                "labels", DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_LABELS
            )
            for field in ("width", "height", "taken_at"):
                schema.add_field(field, DataType.INT64)
            for field in ("latitude", "longitude"):
                schema.add_field(field, DataType.DOUBLE)
            half = _version(client.get_server_version(timeout=SEARCH_S)) >= FLOAT16_SINCE
            kind = DataType.FLOAT16_VECTOR if half else DataType.FLOAT_VECTOR
            schema.add_field("vector", kind, dim=dimensions)
            index = client.prepare_index_params()
            index.add_index(
                "vector",
                index_type="HNSW",
                metric_type="COSINE",
                params={"M": HNSW_M, "efConstruction": HNSW_EF_CONSTRUCTION},
            )
            client.create_collection(
                name,
                schema=schema,
                index_params=index,
                consistency_level="Bounded",
                timeout=SET_UP_S,
            )

        self._ask(create, anyway=True)

    def drop(self, name: str) -> None:
        """Drop a collection, if there is one."""
        self._ask(lambda client: client.drop_collection(name, timeout=SET_UP_S), anyway=True)

    def put(self, name: str, rows: Sequence[StoredRow]) -> None:
        """Insert rows or replace those with the same ids, each of which is given once.

        Raises `Refused` if one of them cannot be taken.
        """

        def put(client: Any) -> None:
            kind = self._type_of(client, name)
            data = [{**fields_of(row), "vector": row.vector.astype(kind)} for row in rows]
            try:
                client.upsert(name, data, timeout=WRITE_S)
            except Exception as exc:
                if _refuses(exc):
                    raise Refused(_reason(exc)) from exc
                raise

        if rows:
            self._ask(put, anyway=True)

    def delete(self, name: str, ids: Sequence[int]) -> None:
        """Delete the rows that there are of these."""
        if ids:
            wanted = list(ids)
            self._ask(lambda client: client.delete(name, ids=wanted, timeout=WRITE_S), anyway=True)

    def search(
        self, name: str, vectors: Sequence[Vector], *, limit: int, ef: int, expression: str = ""
    ) -> list[Brought]:
        """Return for each vector the `limit` nearest rows that pass, as far as the index knows.

        What was written seconds ago may be missing.
        """
        params = {"metric_type": "COSINE", "params": {"ef": max(ef, limit)}}
        found = self._ask(
            lambda client: client.search(
                name,
                data=[np.asarray(vector, self._type_of(client, name)) for vector in vectors],
                limit=limit,
                filter=expression,
                search_params=params,
                consistency_level="Bounded",
                timeout=SEARCH_S,
            )
        )
        return [
            Brought(
                [int(hit["id"]) for hit in hits],
                # What Milvus calls the distance is the cosine.
                1 - hits[-1]["distance"] if len(hits) >= limit else float("inf"),
            )
            for hits in found
        ]

    def count(self, name: str) -> int:
        """Return the number of rows, all that was written included."""
        # The number in its statistics counts what was replaced or deleted, too.
        [row] = self._ask(
            lambda client: client.query(
                name,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=WRITE_S,
            )
        )
        return int(row["count(*)"])

    def flush(self, name: str) -> None:
        """End the segment that grows, so that its rows are indexed."""
        self._ask(lambda client: client.flush(name, timeout=SET_UP_S), anyway=True)

    def is_indexed(self, name: str) -> bool:
        """Return whether all that was flushed is searched by an index.

        It is searched by an approximate one until then: some ten seconds longer than the progress
        of the index says.
        """

        def indexed(client: Any) -> bool:
            loaded = client.list_loaded_segments(name, timeout=WRITE_S)
            usable = {s.segment_id for s in loaded if s.index_name or s.num_rows < LEAST_INDEXED}
            flushed = client.list_persistent_segments(name, timeout=WRITE_S)
            # Those of the level L0 have deletions only.
            return all(s.segment_id in usable for s in flushed if s.level_name != "L0")

        return self._ask(indexed, anyway=True)

    def load(self, name: str) -> None:
        """Load a collection, which does nothing if it is loaded."""
        self._ask(lambda client: client.load_collection(name, timeout=SET_UP_S), anyway=True)

    def _ask(self, work: Callable[[Any], T], *, anyway: bool = False) -> T:
        """Do something with the client; `anyway` even if Milvus has just failed to answer."""
        try:
            found = work(self._connected(anyway=anyway))
        except (MilvusUnavailable, Refused):
            raise
        except Exception as exc:
            raise self._failed(exc) from exc
        if self.failure:
            logger.info("Milvus answers again", extra=fields(url=self.url))
        self.failure = ""
        return found

    def _failed(self, exc: Exception) -> MilvusUnavailable:
        """Note that Milvus failed; return what to tell who asked."""
        reason = _reason(exc)
        # What is wrong with one question says nothing of the next.
        if not _refuses(exc):
            self._failed_at, self.failure = monotonic(), reason
        return _unavailable(reason)

    def _check_pause(self, *, anyway: bool) -> None:
        if not anyway and monotonic() - self._failed_at < PAUSE_S:
            raise _unavailable(self.failure)

    def _connected(self, *, anyway: bool) -> Any:
        self._check_pause(anyway=anyway)
        with self._lock:
            if self._client is None:
                # Who waited for another to connect in vain need not try as long again.
                self._check_pause(anyway=anyway)
                try:
                    self._client = self._connect()
                except Exception as exc:
                    raise self._failed(exc) from exc
            return self._client

    def _connect(self) -> Any:
        from pymilvus import MilvusClient

        # It logs a traceback with whatever fails, and we say it in a line.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        return MilvusClient(
            self.url,
            token=self._token,
            db_name=self._database,
            timeout=SEARCH_S,
            dedicated=True,
        )

    def _type_of(self, client: Any, name: str) -> Any:
        """Return numpy's type of a collection's vectors, which an older Milvus may have made."""
        if name not in self._types:
            from pymilvus import DataType

            described = client.describe_collection(name, timeout=SEARCH_S)
            [kind] = [field["type"] for field in described["fields"] if field["name"] == "vector"]
            self._types[name] = np.float16 if kind == DataType.FLOAT16_VECTOR else np.float32
        return self._types[name]


# What pymilvus itself refuses.
_MISTAKES = {"ParamError", "DataNotMatchException"}


def _check_package() -> None:
    from importlib.util import find_spec

    if find_spec("pymilvus") is None:
        raise MissingPackage("Milvus needs pymilvus: pip install 'lookalike[milvus]'")


def _version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version such as v2.3.5-lite."""
    parts = [part for part in text.lstrip("v").split(".")[:2] if part.isdigit()]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)


def _refuses(exc: Exception) -> bool:
    """Return whether what was asked is at fault, and not Milvus."""
    return getattr(exc, "code", None) == INVALID or type(exc).__name__ in _MISTAKES


def _unavailable(reason: str) -> MilvusUnavailable:
    return MilvusUnavailable(f"{MilvusUnavailable().detail} Milvus says: {reason}")


def _reason(exc: Exception) -> str:
    # Where pymilvus says only that it cannot connect, gRPC says why not.
    details: Any = getattr(exc.__cause__, "details", None)
    said = (details() if callable(details) else "") or getattr(exc, "message", "") or exc
    lines = str(said).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
