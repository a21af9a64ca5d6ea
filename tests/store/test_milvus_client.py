"""What is asked of Milvus' client, and what its failures mean; a stand-in has its place."""

import asyncio
import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import numpy as np
import pymilvus
import pytest
from pymilvus import DataType, MilvusException

from app.problems import MilvusUnavailable
from app.store.milvus.applying import Applier
from app.store.milvus.client import INVALID, Brought, Milvus, Refused
from app.store.milvus.rows import StoredRow

ROW = StoredRow(7, None, None, None, None, None, None, np.ones(4, np.float32) / 2)


class Client:
    """Answers as pymilvus' client does, for collections of one type of vectors."""

    def __init__(self, kind: DataType = DataType.FLOAT_VECTOR) -> None:
        self.kind = kind
        self.types: list[Any] = []
        self.fails: Exception | None = None

    def list_collections(self, **_: Any) -> list[str]:
        return []

    def get_server_version(self, **_: Any) -> str:
        return "v2.6.1"

    def describe_collection(self, name: str, **_: Any) -> dict[str, Any]:
        self._fail()
        return {"fields": [{"name": "id"}, {"name": "vector", "type": self.kind}]}

    def upsert(self, name: str, data: list[dict[str, Any]], **_: Any) -> None:
        self._fail()
        self.types += [row["vector"].dtype for row in data]

    def search(self, name: str, *, data: list[Any], **_: Any) -> list[Any]:
        self._fail()
        self.types += [vector.dtype for vector in data]
        return [[] for _ in data]

    def _fail(self) -> None:
        if self.fails:
            raise self.fails


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(pymilvus, "MilvusClient", lambda *_, **__: client)
    return client


@pytest.mark.parametrize(
    ("kind", "right"), [(DataType.FLOAT_VECTOR, "float32"), (DataType.FLOAT16_VECTOR, "float16")]
)
def test_vectors_have_the_type_of_their_collection_whatever_made_it(
    stand_in: Client, kind: DataType, right: str
) -> None:
    milvus, stand_in.kind = Milvus("http://milvus"), kind
    # What fails at first is asked again.
    stand_in.fails = OSError("away")
    with pytest.raises(MilvusUnavailable):
        milvus.put("made", [ROW])
    stand_in.fails = None
    milvus.put("made", [ROW])
    milvus = Milvus("http://milvus")
    milvus.search("made", [ROW.vector], limit=1, ef=1)
    assert stand_in.types == [right, right]


def test_a_question_that_milvus_refuses_is_unavailable_and_stops_no_other(
    stand_in: Client,
) -> None:
    milvus = Milvus("http://milvus")
    stand_in.fails = MilvusException(INVALID, "too much")
    with pytest.raises(MilvusUnavailable, match="Milvus says: too much"):
        milvus.search("made", [ROW.vector], limit=1, ef=1)
    stand_in.fails = None
    assert milvus.search("made", [ROW.vector], limit=1, ef=1) == [Brought([])]
    stand_in.fails = MilvusException(INVALID, "not this row")
    with pytest.raises(Refused, match="not this row"):
        milvus.put("made", [ROW])


def test_who_waits_for_another_to_connect_does_not_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, goes_on, tried = Event(), Event(), list[int]()

    def connect(*_: Any, **__: Any) -> Any:
        tried.append(1)
        began.set()
        goes_on.wait()
        raise OSError("nobody there")

    monkeypatch.setattr(pymilvus, "MilvusClient", connect)
    milvus, failed = Milvus("http://milvus"), list[str]()

    def check() -> None:
        try:
            milvus.check()
        except MilvusUnavailable as problem:
            failed.append(problem.detail)

    threads = [Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    goes_on.set()
    for thread in threads:
        thread.join()
    assert (len(tried), len(failed)) == (1, 3)


def test_a_milvus_that_hangs_takes_no_threads_of_others() -> None:
    goes_on = Event()

    async def run() -> None:
        milvus = Milvus("http://milvus")
        hanging = [asyncio.create_task(milvus.call(lambda _: goes_on.wait())) for _ in range(50)]
        try:
            async with asyncio.timeout(60):
                assert await asyncio.to_thread(lambda: True)
        finally:
            goes_on.set()
            await asyncio.gather(*hanging)
            milvus.close()

    asyncio.run(run())


def test_a_failure_that_lasts_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    stopping = asyncio.Event()

    class Failing(Applier):
        def __init__(self) -> None:
            self.turns: list[Callable[[], Exception]] = [
                *[MilvusUnavailable] * 2,
                *[lambda: ValueError("a mistake")] * 3,
            ]

        async def once(self, *, loading: bool = False) -> bool:
            if len(self.turns) == 1:
                stopping.set()
            raise self.turns.pop(0)()

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("app.store.milvus.applying.POLL_AWAY_S", 0)
        asyncio.run(Failing().run(stopping))
    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
