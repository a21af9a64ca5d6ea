"""What takes long is done in threads, so that the event loop has time for everyone."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from app.encoding.onnx_model import OnnxModel
from app.store import vectors
from app.store.word_query import query_tokens
from tests.conftest import Server
from tests.live import Loop
from tests.samples import encode, photo


@pytest.fixture
def threads_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[str]]:
    """A function that notes in which threads a method or function is called."""

    def watch(owner: Any, name: str) -> list[str]:
        called, original = list[str](), getattr(owner, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            called.append(threading.current_thread().name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, noting)
        return called

    return watch


def loop_thread(loop: Loop) -> str:
    async def name() -> str:
        return threading.current_thread().name

    return loop.run(name())


def test_uploads_are_encoded_in_the_threads_that_decode(
    server: Server, threads_of: Callable[[Any, str], list[str]]
) -> None:
    saved = threads_of(Image.Image, "save")
    # No browser shows a TIFF: it is kept as a JPEG, and has a thumbnail.
    file = encode(photo(1), "TIFF")
    saved.clear()
    answer = server.client.post("/", files={"file": ("a.tiff", file)})
    assert answer.status_code == 303
    server.client.get(answer.headers["location"]).raise_for_status()
    server.client.post("/api/images", files={"file": ("a.tiff", file)}).raise_for_status()
    assert len(saved) >= 4
    assert {name.rstrip("0123456789") for name in saved} == {"decode-"}


def test_texts_are_read_in_threads(
    server: Server, loop: Loop, threads_of: Callable[[Any, str], list[str]]
) -> None:
    read = threads_of(OnnxModel, "read")
    split = threads_of(vectors, query_tokens.__name__)
    texts = [{"text": f"a red boat {n}"} for n in range(16)]
    server.client.post("/api/search", json={"query": texts}).raise_for_status()
    assert (len(read), len(split)) == (16, 1)
    assert loop_thread(loop) not in {*read, *split}
