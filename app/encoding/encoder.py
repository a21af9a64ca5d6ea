"""The encoder: images and texts to unit vectors, in batches shared by concurrent calls."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.providers import CPU
from app.encoding.tally import Tally
from app.problems import NoTextTower

T = TypeVar("T")
Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

# Of texts, and of images that the CPU embeds.
MAX_BATCH = CPU.largest_batch
# How long a batch is held open for expected images, about the time to decode 16 on one core.
MAX_WAIT_S = 0.05
# Of the tallies: from the built-in model on a fast machine to a CLIP on a slow one.
SIZES = (1, 2, 4, 8, 12, 16, 32)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a text a model uses.

    `is_cut`: the text is too long, and its end is ignored. `unknown_words` are ignored too.
    `is_empty`: nothing of the text is used.
    """

    is_cut: bool = False
    unknown_words: tuple[str, ...] = ()
    is_empty: bool = False


class Model(Protocol):
    """A model as the encoder uses it; its vectors need not have unit length.

    `name` and `fingerprint` identify it: vectors of different models are never compared. `side` is
    the short side of its input, in pixels; `provider` is the processor that embeds images, at most
    `largest_batch` at once. `prepare` and `read` must be thread-safe; each of the
    other methods is called by one thread at a time.
    """

    name: str
    fingerprint: str
    precision: str
    dimensions: int
    side: int
    provider: str
    largest_batch: int

    @property
    def has_text(self) -> bool:
        """Whether the model can embed texts."""
        ...

    def prepare(self, image: Image.Image) -> Any:
        """Return the input for `embed_images` of an RGB image."""
        ...

    def embed_images(self, prepared: Sequence[Any]) -> Vectors:
        """Embed a batch of prepared images: (n, dimensions)."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed a batch of texts: (n, dimensions)."""
        ...

    def read(self, text: str) -> Reading:
        """Return how much of a text the model uses, without embedding it."""
        ...


class SideBySide(Protocol):
    """A model several of whose batches run side by side faster than one after the other."""

    threads: int

    def embed_beside(self, prepared: Sequence[Any]) -> Vectors:
        """Do what `embed_images` does, on a part of the cores; thread-safe."""
        ...


class Pictured(Protocol):
    """Anything that has an RGB image for a model, such as a decoded picture."""

    def seen_by(self, side: int) -> Image.Image:
        """Return the pixels for a model whose input is `side` pixels square."""
        ...


class Encoder:
    """A model behind two batchers, one for images and one for texts.

    Vectors are (dimensions,) float32 of unit length. Use `embed_image` and `embed_text` in an event
    loop, `submit_image` and `submit_text` in threads. `source` is the value of `ENCODER` that
    selects this model; `threads` prepare images and read texts.
    """

    def __init__(self, model: Model, *, source: str, threads: int = 2) -> None:
        self.model = model
        self.source = source
        beside = _side_by_side(model)
        self.images: Batcher[Any] = Batcher(
            model.embed_images,
            max_batch=model.largest_batch,
            beside=beside.embed_beside if beside else None,
            threads=beside.threads if beside else 1,
        )
        self.texts: Batcher[str] = Batcher(model.embed_texts)
        self._preparing = ThreadPoolExecutor(threads, "prepare")

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        return self.model.dimensions

    @property
    def has_text(self) -> bool:
        """Whether the encoder can embed texts."""
        return self.model.has_text

    def submit_image(self, image: Image.Image) -> Future[Vector]:
        """Prepare an RGB image in this thread and queue it; the future gives its unit vector."""
        return self.images.submit(self.model.prepare(image))

    def submit_text(self, text: str) -> Future[Vector]:
        """Queue a text; the future gives its unit vector. Raises `NoTextTower`."""
        if not self.has_text:
            raise NoTextTower(
                f"The encoder {self.model.name} embeds images only. To search by text, set "
                "ENCODER=lite or ENCODER=clip."
            )
        return self.texts.submit(text)

    async def embed_image(self, image: Image.Image) -> Vector:
        """Return the unit vector of an RGB image."""
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._preparing, self.model.prepare, image)
        return await self.embed_prepared(prepared)

    def prepare(self, picture: Pictured) -> Any:
        """Return what the model reads of a picture, for `embed_prepared`; to be used in threads."""
        return self.model.prepare(picture.seen_by(self.model.side))

    async def embed_prepared(self, prepared: Any) -> Vector:
        """Return the unit vector of a picture that has been prepared."""
        return await asyncio.wrap_future(self.images.submit(prepared))

    async def read(self, texts: Sequence[str]) -> dict[str, Reading]:
        """Return how much of each text the model uses; long texts take it some milliseconds."""

        def work() -> dict[str, Reading]:
            return {text: self.model.read(text) for text in texts}

        return await asyncio.get_running_loop().run_in_executor(self._preparing, work)

    async def embed_text(self, text: str) -> Vector:
        """Return the unit vector of a text; raises `NoTextTower`."""
        return await asyncio.wrap_future(self.submit_text(text))

    def close(self) -> None:
        """Embed what is queued, then stop the threads."""
        self._preparing.shutdown()
        self.images.close()
        self.texts.close()


def _side_by_side(model: object) -> SideBySide | None:
    return cast(SideBySide, model) if getattr(model, "threads", 1) > 1 else None


class Batcher(Generic[T]):
    """Threads that run `embed` on batches of whatever was queued while they were busy.

    A single item is embedded at once. A batch that is not full waits for more, at most 50 ms, only
    while items are `expected` and none in the queue is `hurried`. Cancelled items are dropped.
    `calls` and `items` count the calls of `embed` and the items in them; `sizes` and `seconds`
    tally the batches and how long each took.

    With `beside`, which does the same on a part of the cores, so many `threads` run batches of
    items that are not hurried side by side, and one more is kept for those that are: these are
    batches of their own, which have all cores by `embed` if no other batch runs.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[T]], Vectors],
        *,
        max_batch: int = MAX_BATCH,
        beside: Callable[[Sequence[T]], Vectors] | None = None,
        threads: int = 1,
    ) -> None:
        self.calls = 0
        self.items = 0
        self.sizes = Tally(SIZES)
        self.seconds = Tally(SECONDS)
        self._embed = embed
        self._beside = beside
        self._most_calm = threads
        self._max_batch = max_batch
        self._hurried: deque[_Queued[T]] = deque()
        self._calm: deque[_Queued[T]] = deque()
        # One thread at a time fills a batch, so that they do not divide what could be one.
        self._filling = threading.Lock()
        self._changed = threading.Condition()
        self._coming = 0
        self._running = self._calm_running = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name="embed", daemon=True)
            for _ in range(threads + 1 if beside else 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T, *, hurried: bool = True) -> Future[Vector]:
        """Queue an item; the future gives its unit vector, or raises what `embed` raised."""
        future: Future[Vector] = Future()
        with self._changed:
            (self._hurried if hurried else self._calm).append((item, future))
            self._changed.notify()
        return future

    @contextmanager
    def expected(self) -> Generator[None]:
        """Announce an item to be submitted within the context, unless preparing it fails."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def close(self) -> None:
        """Embed what is queued, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run(batch)

    def _next_batch(self) -> "_Batch[T] | None":
        """Wait for a batch; None once the batcher is closed and the queues are empty."""
        with self._filling, self._changed:
            self._changed.wait_for(lambda: self._is_due() or self._closing)
            deadline = monotonic() + MAX_WAIT_S
            while self._may_fill():
                left = deadline - monotonic()
                # Beside another batch, whose end is told of, there is time until it is full.
                if left <= 0 and not self._running:
                    break
                self._changed.wait(None if self._running else left)
            is_hurried = bool(self._hurried)
            # What is hurried does not wait for other items of its batch, where it need not.
            queues = [self._hurried] if is_hurried and self._beside else [self._hurried, self._calm]
            items: list[_Queued[T]] = []
            for queue in queues:
                while queue and len(items) < self._max_batch:
                    items.append(queue.popleft())
            if not items:
                return None
            embed = self._embed
            if self._beside and (self._running or not is_hurried):
                embed = self._beside
            self._running += 1
            self._calm_running += not is_hurried
            return _Batch(items, embed, is_hurried)

    def _is_due(self) -> bool:
        return bool(self._hurried or (self._calm and self._calm_running < self._most_calm))

    def _may_fill(self) -> bool:
        more = len(self._calm) < self._max_batch and self._coming > 0
        return more and not self._hurried and not self._closing

    def _run(self, batch: "_Batch[T]") -> None:
        pairs = [pair for pair in batch.items if pair[1].set_running_or_notify_cancel()]
        if pairs:
            self._embed_pairs(pairs, batch.embed)
        with self._changed:
            self._running -= 1
            self._calm_running -= not batch.is_hurried
            self._changed.notify()

    def _embed_pairs(
        self, pairs: "Sequence[_Queued[T]]", embed: Callable[[Sequence[T]], Vectors]
    ) -> None:
        with self._changed:
            self.calls += 1
            self.items += len(pairs)
            self.sizes.add(len(pairs))
        start = monotonic()
        try:
            vectors = unit(embed([item for item, _ in pairs]))
        except Exception as exc:
            for _, future in pairs:
                future.set_exception(exc)
            return
        finally:
            with self._changed:
                self.seconds.add(monotonic() - start)
        for (_, future), vector in zip(pairs, vectors, strict=True):
            future.set_result(vector)


_Queued = tuple[T, Future[Vector]]


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    """Items to be embedded, and how."""

    items: "Sequence[_Queued[T]]"
    embed: Callable[[Sequence[T]], Vectors]
    is_hurried: bool


def unit(vectors: Vectors) -> Vectors:
    """Return the rows of an (n, dimensions) array scaled to unit length, as float32."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
