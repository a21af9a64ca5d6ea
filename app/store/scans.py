"""The kinds of HNSW index that a vector table may have, and how each brings the nearest rows.

Whatever the kind, distances are those of the stored vectors, and filters are conditions of the same
statement: an answer may lack images, by the recall of the index, and is never wrong.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

from pgvector.sqlalchemy import BIT
from sqlalchemy import (
    FromClause,
    Index,
    MetaData,
    Select,
    Table,
    TextClause,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.sql.elements import ColumnElement

from app.store.hnsw import hnsw_index

Untyped: TypeAlias = Any

Kind = Literal["halfvec", "bit"]

# hnsw.ef_search, the size of the candidate list. With filters, it is twice the number of candidates
# needed for enough that pass, within these bounds (bench/filter.py: a recall of 0.95 or more).
EF_SEARCH = 100
MIN_EF_FILTERED, MAX_EF_FILTERED = 150, 500
# pgvector's maximum.
MAX_EF_SEARCH = 1000
# Rows that the iterative scan visits before it gives up and an exact search follows, or twice as
# many as are needed for enough that pass.
MAX_SCANNED = 40_000

# Of the rows nearest by their signs, so many are compared by their vectors: for the few nearest,
# and for each further one (docs/design.md, on `store/scans.py`).
MIN_RERANKED = 600
RERANKED_PER_RESULT = 20


class Scan(Protocol):
    """A kind of index."""

    @property
    def kind(self) -> Kind:
        """Its name, with which those of its indexes begin."""
        ...

    def index(self, table: Table, *, m: int, ef_construction: int) -> Index:
        """Return the index of a table."""
        ...

    def bytes_per_row(self, dimensions: int) -> int:
        """Return the bytes that the index has per vector."""
        ...

    @property
    def effort(self) -> float:
        """How long a candidate takes, in relation to one of an index of whole vectors."""
        ...

    def candidates(self, limit: int) -> int:
        """Return how many rows the index has to bring for `limit` results."""
        ...

    def nearest(
        self, rows: FromClause, vector: Untyped, *, limit: int, wanted: Sequence[Untyped] = ()
    ) -> Select[Any]:
        """Return a query for (node_id, distance) of the rows that pass, the nearest first.

        `vector` is a vector, or the column of one of another table, from which rows are sought.
        """
        ...


class HalfvecScan:
    """An index of the vectors as they are stored."""

    kind: Kind = "halfvec"
    effort = 1.0

    def index(self, table: Table, *, m: int, ef_construction: int) -> Index:
        """Return the index of a table."""
        copy = table.to_metadata(MetaData())
        return hnsw_index(
            copy,
            copy.c.embedding,
            operators="halfvec_cosine_ops",
            m=m,
            ef_construction=ef_construction,
        )

    def bytes_per_row(self, dimensions: int) -> int:
        """Return the bytes that the index has per vector."""
        return 2 * dimensions + _BYTES_OF_LINKS

    def candidates(self, limit: int) -> int:
        """Return how many rows the index has to bring for `limit` results."""
        return limit

    def nearest(
        self, rows: FromClause, vector: Untyped, *, limit: int, wanted: Sequence[Untyped] = ()
    ) -> Select[Any]:
        """Return the query; the index gives the distances."""
        distance = rows.c.embedding.cosine_distance(vector).label("distance")
        found = select(rows.c.node_id, distance).where(*wanted)
        return found.order_by(distance).limit(limit)


class BitScan:
    """An index of signs, of one bit per component instead of 16; the nearest rows are ranked again.

    The signs are those of mixed vectors (migration 0017). Plain ones say little where some
    components matter far more than others, as in the built-in encoder's vectors, half of whose
    components have a thirtieth of the variance: of the 20 nearest images, the 200 with the nearest
    plain signs have 86%, those with the nearest mixed ones 99%.
    """

    kind: Kind = "bit"
    # Of a million rows, 6,000 candidates were brought in 66 ms, and 100,000 rows compared in 256.
    effort = 0.2

    def index(self, table: Table, *, m: int, ef_construction: int) -> Index:
        """Return the index of a table."""
        copy = table.to_metadata(MetaData())
        bits = _bits(copy.c.embedding, copy.c.embedding.type).label("bits")
        return hnsw_index(
            copy, bits, operators="bit_hamming_ops", m=m, ef_construction=ef_construction
        )

    def bytes_per_row(self, dimensions: int) -> int:
        """Return the bytes that the index has per vector."""
        return dimensions // 8 + _BYTES_OF_LINKS

    def candidates(self, limit: int) -> int:
        """Return how many rows the index has to bring for `limit` results."""
        return min(max(MIN_RERANKED, RERANKED_PER_RESULT * limit), max(limit, MAX_EF_SEARCH))

    def nearest(
        self, rows: FromClause, vector: Untyped, *, limit: int, wanted: Sequence[Untyped] = ()
    ) -> Select[Any]:
        """Return the query: of the rows nearest by the signs, those nearest by the vectors."""
        distance = rows.c.embedding.cosine_distance(vector).label("distance")
        kind: Any = rows.c.embedding.type
        signs = _bits(rows.c.embedding, kind).hamming_distance(_bits(vector, kind))
        some = select(rows.c.node_id, distance).where(*wanted)
        some = some.order_by(signs).limit(self.candidates(limit))
        if isinstance(vector, ColumnElement):
            some = some.correlate(vector.table)  # pyright: ignore[reportAttributeAccessIssue]
            near = some.subquery().lateral()
        else:
            near = some.subquery()
        return select(near).order_by(near.c.distance).limit(limit)


SCANS: dict[Kind, Scan] = {"halfvec": HalfvecScan(), "bit": BitScan()}


def kinds_of(names: Sequence[str]) -> list[Kind]:
    """Return those of these names that are kinds, in their order."""
    return [kind for name in names for kind in SCANS if kind == name]


# The neighbours of a row and their frame, with m = 16.
_BYTES_OF_LINKS = 340


def _bits(vector: Untyped, kind: Untyped) -> Untyped:
    """Return the signs of a vector as the index has them; the planner compares the expressions."""
    # A column is of this type already.
    if not isinstance(vector, ColumnElement):
        vector = cast(vector, kind)
    return cast(func.binary_quantize(func.mixed_vector(vector)), BIT(kind.dim))


def local_settings(limit: int) -> tuple[TextClause, dict[str, str]]:
    """Return a statement, with its parameters, that sets up index scans for `limit` results.

    The settings end with the transaction.
    """
    return _settings(max(limit, EF_SEARCH), order="strict_order")


def scan_settings(
    limit: int, candidates: float, *, narrowed: bool
) -> tuple[TextClause, dict[str, str]]:
    """Return the same for a scan of this many candidates; `narrowed` if some may not pass."""
    if not narrowed:
        return local_settings(limit)
    ef_search = min(max(2 * round(candidates), MIN_EF_FILTERED), MAX_EF_FILTERED)
    # Plans with a sort are penalised, that is all but the HNSW index's.
    return _settings(
        max(limit, ef_search), order="relaxed_order", most=2 * round(candidates), sort="off"
    )


def _settings(
    ef_search: int, *, order: str, most: int = 0, sort: str = "on"
) -> tuple[TextClause, dict[str, str]]:
    statement = text(
        "SELECT set_config('hnsw.ef_search', :ef_search, true), "
        "set_config('hnsw.iterative_scan', :order, true), "
        "set_config('hnsw.max_scan_tuples', :most, true), "
        "set_config('enable_sort', :sort, true)"
    )
    return statement, {
        "ef_search": str(min(ef_search, MAX_EF_SEARCH)),
        "order": order,
        "most": str(max(most, MAX_SCANNED)),
        "sort": sort,
    }
