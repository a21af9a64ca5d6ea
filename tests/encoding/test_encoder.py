import asyncio
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.encoding.encoder import MAX_BATCH, Batcher, Encoder, unit
from app.encoding.onnx_model import OnnxModel
from app.problems import NoTextTower
from tests.onnx_models import write_clip
from tests.samples import cosine, photo


@pytest.fixture
def encoder(tmp_path: Path) -> Generator[Encoder]:
    encoder = Encoder(OnnxModel(write_clip(tmp_path / "m"), name="tiny"), source="tiny")
    yield encoder
    encoder.close()


def test_vectors_are_float32_of_unit_length(encoder: Encoder) -> None:
    image = asyncio.run(encoder.embed_image(photo(1)))
    text = asyncio.run(encoder.embed_text("a red cat"))
    for vector in (image, text):
        assert (vector.shape, vector.dtype) == ((encoder.dimensions,), np.float32)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_threads_get_the_same_vectors_as_the_event_loop(encoder: Encoder) -> None:
    image = asyncio.run(encoder.embed_image(photo(1)))
    np.testing.assert_allclose(encoder.submit_image(photo(1)).result(), image, atol=1e-6)
    text = asyncio.run(encoder.embed_text("snow"))
    np.testing.assert_allclose(encoder.submit_text("snow").result(), text, atol=1e-6)


def test_text_without_a_text_tower_raises_with_advice(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "t", text=False), name="tiny")
    encoder = Encoder(model, source="tiny")
    with pytest.raises(NoTextTower, match="ENCODER=clip"):
        asyncio.run(encoder.embed_text("cat"))
    encoder.close()


def test_concurrent_images_get_their_own_vectors(encoder: Encoder) -> None:
    async def run() -> list[Any]:
        return await asyncio.gather(*(encoder.embed_image(photo(seed)) for seed in range(40)))

    vectors = asyncio.run(run())
    for seed in (0, 17, 39):
        assert cosine(vectors[seed], asyncio.run(encoder.embed_image(photo(seed)))) > 0.9999
    assert encoder.images.items == 43


class Gate:
    """A model that waits until it is opened, and records its batches."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    def embed(self, items: Sequence[int]) -> Any:
        self.entered.set()
        assert self.open.wait(10)
        self.batches.append(list(items))
        if -1 in items:
            raise ValueError("no vector for this")
        return np.array([[item, 1.0] for item in items])


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def batcher(gate: Gate) -> Generator[Batcher[int]]:
    batcher = Batcher(gate.embed)
    yield batcher
    gate.open.set()
    batcher.close()


def test_queued_calls_share_one_inference_call(gate: Gate, batcher: Batcher[int]) -> None:
    first = batcher.submit(100)
    assert gate.entered.wait(10)
    others = [batcher.submit(item) for item in range(MAX_BATCH + 4)]
    gate.open.set()
    assert first.result()[0] == pytest.approx(1, abs=1e-3)
    for item, future in enumerate(others):
        np.testing.assert_allclose(future.result(), unit(np.array([[item, 1.0]]))[0])
    assert [len(batch) for batch in gate.batches] == [1, MAX_BATCH, 4]
    assert (batcher.calls, batcher.items) == (3, MAX_BATCH + 5)


def test_a_batch_is_held_open_for_expected_items(gate: Gate, batcher: Batcher[int]) -> None:
    gate.open.set()
    with batcher.expected():
        first = batcher.submit(1, hurried=False)
        second = batcher.submit(2, hurried=False)
    first.result()
    second.result()
    assert gate.batches == [[1, 2]]


def test_a_batch_with_a_hurried_item_is_not_held_open(
    gate: Gate, batcher: Batcher[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.encoding.encoder.MAX_WAIT_S", 3600)
    gate.open.set()
    with batcher.expected():
        calm = batcher.submit(1, hurried=False)
        batcher.submit(2).result(10)
        calm.result(10)
    # Nor does an expected item that failed hold it open.
    with suppress(ZeroDivisionError), batcher.expected():
        calm = batcher.submit(3, hurried=False)
        raise ZeroDivisionError
    calm.result(10)


def test_cancelled_calls_are_not_embedded(gate: Gate, batcher: Batcher[int]) -> None:
    batcher.submit(1)
    assert gate.entered.wait(10)
    unwanted, wanted = batcher.submit(2), batcher.submit(3)
    assert unwanted.cancel()
    gate.open.set()
    wanted.result()
    assert gate.batches == [[1], [3]]


def test_a_failing_batch_fails_only_its_own_calls(gate: Gate, batcher: Batcher[int]) -> None:
    gate.open.set()
    with pytest.raises(ValueError, match="no vector"):
        batcher.submit(-1).result()
    assert batcher.submit(5).result() is not None


def test_closing_embeds_queued_items(gate: Gate, batcher: Batcher[int]) -> None:
    futures = [batcher.submit(item) for item in range(3)]
    gate.open.set()
    batcher.close()
    assert all(future.done() for future in futures)


class Cores:
    """Records what runs on all cores and what beside; every batch waits until it is let go."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[tuple[str, list[int]]] = []
        self.let_go: set[int] = set()

    def on_all(self, items: Sequence[int]) -> Any:
        return self._run("all", items)

    def beside(self, items: Sequence[int]) -> Any:
        return self._run("beside", items)

    def _run(self, where: str, items: Sequence[int]) -> Any:
        with self.changed:
            self.begun.append((where, list(items)))
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.let_go.issuperset(items), 60)
        return np.array([[item, 1.0] for item in items])

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) == number, 60)

    def free(self, *items: int) -> None:
        with self.changed:
            self.let_go.update(items)
            self.changed.notify_all()


@pytest.fixture
def cores() -> Cores:
    return Cores()


@pytest.fixture
def beside(cores: Cores) -> Generator[Batcher[int]]:
    batcher = Batcher(cores.on_all, beside=cores.beside, threads=2)
    yield batcher
    cores.free(*range(100))
    batcher.close()


def test_a_hurried_item_has_all_cores_unless_they_are_busy(
    cores: Cores, beside: Batcher[int]
) -> None:
    beside.submit(1)
    cores.wait_for(1)
    beside.submit(2)
    cores.wait_for(2)
    assert cores.begun == [("all", [1]), ("beside", [2])]


def test_a_hurried_item_waits_for_no_batch_and_no_other_item(
    cores: Cores, beside: Batcher[int]
) -> None:
    calm = [beside.submit(item, hurried=False) for item in (1,)]
    cores.wait_for(1)
    calm.append(beside.submit(2, hurried=False))
    cores.wait_for(2)
    calm.append(beside.submit(3, hurried=False))
    hurried = beside.submit(50)
    cores.wait_for(3)
    # The third calm one waits, as only two such batches run at once.
    assert cores.begun == [("beside", [1]), ("beside", [2]), ("beside", [50])]
    cores.free(50)
    assert hurried.result(60)[0] == pytest.approx(1, abs=1e-3)
    assert not any(future.done() for future in calm)
    cores.free(1)
    cores.wait_for(4)
    assert cores.begun[3] == ("beside", [3])


def test_a_batch_beside_another_waits_until_it_is_full(
    cores: Cores, beside: Batcher[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.encoding.encoder.MAX_WAIT_S", 0)
    beside.submit(99, hurried=False)
    cores.wait_for(1)
    with beside.expected():
        for item in range(MAX_BATCH):
            beside.submit(item, hurried=False)
        cores.wait_for(2)
        assert cores.begun[1] == ("beside", list(range(MAX_BATCH)))
        # Without another, it waits no longer than it is to.
        cores.free(*range(100))
        beside.submit(50, hurried=False).result(60)


def test_embedding_beside_gives_the_same_vectors(tmp_path: Path) -> None:
    model = OnnxModel(write_clip(tmp_path / "m"), name="tiny")
    prepared = [model.prepare(photo(seed)) for seed in range(3)]
    expected = model.embed_images(prepared)
    np.testing.assert_allclose(model.embed_beside(prepared), expected, atol=1e-5)


def test_a_large_model_is_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_clip(tmp_path / "m")
    monkeypatch.setattr("app.encoding.onnx_model.MOST_TWICE_BYTES", 10)
    encoder = Encoder(OnnxModel(folder, name="tiny"), source="tiny")
    monkeypatch.setattr(encoder.model, "embed_beside", None)
    assert asyncio.run(encoder.embed_image(photo(1))).shape == (encoder.dimensions,)
    future = encoder.images.submit(encoder.model.prepare(photo(1)), hurried=False)
    assert future.result(60).shape == (encoder.dimensions,)
    encoder.close()
