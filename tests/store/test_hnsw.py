"""What building a vector index may take."""

import pytest

from app.store.hnsw import build_memory_mb, build_workers, index_dimensions
from app.store.scans import SCANS
from app.store.vector_schema import vector_table

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("rows", "machine", "expected"),
    [
        (1_000, 16 * GB, 64),
        (1_000_000, 16 * GB, 3_024),
        (2_000_000, 32 * GB, 6_048),
        (10_000_000, 16 * GB, 4_000),
        (10_000_000, 100_000_000, 64),
    ],
)
def test_the_memory_follows_the_rows_up_to_a_quarter_of_the_machine(
    rows: int, machine: int, expected: int
) -> None:
    assert build_memory_mb(rows, 512, buffers=128_000_000, machine=machine) == expected


def test_an_index_of_bits_needs_less() -> None:
    asked = {"buffers": 128_000_000, "machine": 16 * GB}
    assert build_memory_mb(1_000_000, 512, kind="bit", **asked) == 2_064
    table = vector_table("data_a", 512)
    kinds = [scan.index(table, m=16, ef_construction=64).info["kind"] for scan in SCANS.values()]
    assert kinds == list(SCANS)


def test_another_machine_is_judged_by_the_buffers_of_its_postgres() -> None:
    assert build_memory_mb(10_000_000, 512, buffers=128_000_000, machine=None) == 4_000
    assert build_memory_mb(10_000_000, 512, buffers=16 * GB, machine=None) == 16_000


def test_there_are_as_many_builders_as_cores_the_leader_among_them() -> None:
    assert [build_workers(8, cores=cores) for cores in (1, 2, 4, 64)] == [0, 1, 3, 8]
    assert build_workers(8, cores=None) == 8


def test_the_dimensions_are_those_of_the_table() -> None:
    table = vector_table("data_a", 384)
    for scan in SCANS.values():
        assert index_dimensions(scan.index(table, m=16, ef_construction=64)) == 384
