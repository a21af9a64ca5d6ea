"""LlamaIndex's ClipEmbedding as the encoder.

torch and OpenAI's clip package are not installed; small modules with the functions that
ClipEmbedding calls stand in for them.
"""

import asyncio
import sys
from collections.abc import Generator
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.encoding.clip import ClipModel
from app.encoding.encoder import Encoder
from app.encoding.loading import load_encoder
from app.problems import UnusableEncoder
from app.settings import read_settings
from tests.samples import cosine, photo


class Tensor:
    """The parts of a tensor that ClipEmbedding uses."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, np.float32)

    def unsqueeze(self, axis: int) -> "Tensor":
        return Tensor(np.expand_dims(self.values, axis))

    def to(self, device: str) -> "Tensor":
        assert device == "cpu"
        return self

    def tolist(self) -> Any:
        return self.values.tolist()


class Network:
    def encode_image(self, batch: Tensor) -> Tensor:
        return Tensor(batch.values.reshape(len(batch.values), -1)[:, :12] + 1)

    def encode_text(self, batch: Tensor) -> Tensor:
        return Tensor(np.cos(batch.values.sum(axis=1, keepdims=True) * np.arange(1, 13)))


@pytest.fixture
def clip_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str) -> tuple[Network, Any]:
        if name != "ViT-B/32":
            raise RuntimeError(f"Model {name} not found")
        return Network(), lambda image: Tensor(np.asarray(image.convert("RGB").resize((2, 2))))

    clip, torch = ModuleType("clip"), ModuleType("torch")
    clip.load = load  # pyright: ignore[reportAttributeAccessIssue]
    clip.tokenize = lambda text: Tensor([[ord(c) for c in text]])  # pyright: ignore[reportAttributeAccessIssue]
    torch.cuda = SimpleNamespace(is_available=lambda: False)  # pyright: ignore[reportAttributeAccessIssue]
    torch.no_grad = nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "clip", clip)
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.fixture
def encoder(clip_package: None) -> Generator[Encoder]:
    settings = read_settings(encoder="llamaindex:ViT-B/32")
    encoder = load_encoder(settings, indexed=(), announce=print)
    yield encoder
    encoder.close()


def test_images_and_texts_become_unit_vectors(encoder: Encoder) -> None:
    assert (encoder.model.name, encoder.has_text) == ("llamaindex:ViT-B/32", True)
    assert encoder.dimensions == 12
    image = asyncio.run(encoder.embed_image(photo(1)))
    text = asyncio.run(encoder.embed_text("cat"))
    assert np.linalg.norm(image) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-6)


def test_the_vectors_equal_those_of_clip_embedding(encoder: Encoder) -> None:
    pixels = np.asarray(photo(1).resize((2, 2)), np.float32).reshape(-1) + 1
    assert cosine(asyncio.run(encoder.embed_image(photo(1))), pixels) == pytest.approx(1, abs=1e-6)


def test_auto_keeps_using_it(clip_package: None) -> None:
    settings = read_settings(encoder="auto")
    encoder = load_encoder(settings, indexed=["llamaindex:ViT-B/32"], announce=print)
    assert encoder.source == "llamaindex:ViT-B/32"
    encoder.close()


def test_without_the_packages_the_message_says_what_to_install() -> None:
    with pytest.raises(UnusableEncoder, match="pip install torch"):
        ClipModel("ViT-B/32")


def test_an_unknown_model_is_named(clip_package: None) -> None:
    with pytest.raises(UnusableEncoder, match="Model RN9000 not found"):
        ClipModel("RN9000")


def test_batches_of_any_size_are_embedded(clip_package: None) -> None:
    model = ClipModel("ViT-B/32")
    prepared = [model.prepare(Image.new("RGB", (8, 8), color)) for color in ("red", "blue")]
    assert model.embed_images(prepared).shape == (2, 12)
