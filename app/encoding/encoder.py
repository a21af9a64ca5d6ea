"""The encoder: pictures and texts to unit vectors, concurrent calls sharing inference calls."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.problems import NoTextTower

T = TypeVar("T")
Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

# Throughput of both ViT-B/32 and the built-in model is flat from here on (bench/encoder.py).
MAX_BATCH = 16
# The longest that a batch is held open for pictures that were announced. Decoding sixteen takes
# about as long on one core.
LONGEST_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a text counts.

    `is_cut`: it is longer than the model reads, so that its end does not count. `unknown_words`:
    what the model has never seen, which does not count either. `is_empty`: nothing is left.
    """

    is_cut: bool = False
    unknown_words: tuple[str, ...] = ()
    is_empty: bool = False


class Model(Protocol):
    """What the encoder asks of a model; its vectors need not have unit length.

    `name` and `fingerprint` are its identity: vectors of two identities are never compared.
    `side` is the short side, in pixels, of the pictures that it looks at.
    `prepare` may be called from several threads, the others from one each.
    """

    name: str
    fingerprint: str
    precision: str
    dimensions: int
    side: int

    @property
    def has_text(self) -> bool:
        """Whether `embed_texts` works."""
        ...

    def prepare(self, image: Image.Image) -> Any:
        """Return an RGB picture as `embed_images` wants it."""
        ...

    def embed_images(self, prepared: Sequence[Any]) -> Vectors:
        """Embed a batch: (n, dimensions)."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed a batch: (n, dimensions)."""
        ...

    def read(self, text: str) -> Reading:
        """Return what the model makes of a text, short of embedding it."""
        ...


class Encoder:
    """A model behind two batchers, one for pictures and one for texts.

    Every vector is float32 of unit length. Usable from an event loop (`embed_image`, `embed_text`)
    and from threads (`submit_image`, `submit_text`). `source` is the value of `ENCODER` that leads
    to the same model again.
    """

    def __init__(self, model: Model, *, source: str, threads: int = 2) -> None:
        self.model = model
        self.source = source
        self.images: Batcher[Any] = Batcher(model.embed_images)
        self.texts: Batcher[str] = Batcher(model.embed_texts)
        self._preparing = ThreadPoolExecutor(threads, "prepare")

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self.model.dimensions

    @property
    def has_text(self) -> bool:
        """Whether texts can be embedded."""
        return self.model.has_text

    def submit_image(self, image: Image.Image) -> Future[Vector]:
        """Prepare an RGB picture in this thread and queue it for inference."""
        return self.images.submit(self.model.prepare(image))

    def submit_text(self, text: str) -> Future[Vector]:
        """Queue a text for inference; raises `NoTextTower` if the model reads pictures only."""
        if not self.has_text:
            raise NoTextTower(
                f"The encoder {self.model.name} reads pictures only. For search by text, set "
                "ENCODER=builtin or ENCODER=clip."
            )
        return self.texts.submit(text)

    async def embed_image(self, image: Image.Image) -> Vector:
        """Return the unit vector of an RGB picture."""
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._preparing, self.model.prepare, image)
        return await asyncio.wrap_future(self.images.submit(prepared))

    async def embed_text(self, text: str) -> Vector:
        """Return the unit vector of a text; raises `NoTextTower`."""
        return await asyncio.wrap_future(self.submit_text(text))

    def close(self) -> None:
        """Stop the threads; what is queued is still embedded."""
        self._preparing.shutdown()
        self.images.close()
        self.texts.close()


class Batcher(Generic[T]):
    """One thread that runs `embed` on whatever has queued up while it was busy.

    A lone call never waits for company. A batch that is not full is held open, for 50 ms at most,
    only while others are `expected` and no one who waits is in a hurry. Calls that were cancelled
    in the queue are dropped. `calls` and `items` count what was run.
    """

    def __init__(
        self, embed: Callable[[Sequence[T]], Vectors], *, max_batch: int = MAX_BATCH
    ) -> None:
        self.calls = 0
        self.items = 0
        self._embed = embed
        self._max_batch = max_batch
        self._queue: deque[tuple[T, Future[Vector]]] = deque()
        self._changed = threading.Condition()
        self._coming = 0
        self._hurried = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="embed", daemon=True)
        self._thread.start()

    def submit(self, item: T, *, hurried: bool = True) -> Future[Vector]:
        """Queue one item; the future gives its unit vector."""
        future: Future[Vector] = Future()
        with self._changed:
            self._queue.append((item, future))
            self._hurried |= hurried
            self._changed.notify()
        return future

    @contextmanager
    def expected(self) -> Generator[None]:
        """Announce an item that will be submitted, unless it fails, before the context ends."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def close(self) -> None:
        """Run what is queued, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run([pair for pair in batch if pair[1].set_running_or_notify_cancel()])

    def _next_batch(self) -> list[tuple[T, Future[Vector]]]:
        """Wait for a batch; it is empty when the batcher is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            deadline = monotonic() + LONGEST_WAIT_S
            while self._may_fill() and (left := deadline - monotonic()) > 0:
                self._changed.wait(left)
            size = min(len(self._queue), self._max_batch)
            batch = [self._queue.popleft() for _ in range(size)]
            self._hurried = self._hurried and bool(self._queue)
            return batch

    def _may_fill(self) -> bool:
        more = len(self._queue) < self._max_batch and self._coming > 0
        return more and not self._hurried and not self._closing

    def _run(self, batch: list[tuple[T, Future[Vector]]]) -> None:
        if not batch:
            return
        self.calls += 1
        self.items += len(batch)
        try:
            vectors = unit(self._embed([item for item, _ in batch]))
        except Exception as exc:
            for _, future in batch:
                future.set_exception(exc)
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)


def unit(vectors: Vectors) -> Vectors:
    """Return the rows of (n, dimensions) scaled to length 1, as float32."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
