"""A model directory, run by ONNX Runtime.

The layout is that of ONNX exports of CLIP on the Hugging Face hub:

    onnx/vision_model.onnx     pixel_values -> image_embeds
    onnx/text_model.onnx       input_ids[, attention_mask] -> text_embeds   (optional)
    tokenizer.json             if there is a text model
    preprocessor_config.json
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from app.encoding.encoder import Reading, Vectors
from app.encoding.memory import return_freed_memory
from app.encoding.preprocessing import read_preprocessing
from app.encoding.providers import CPU, Provider, ProviderMissing, open_session
from app.problems import UnusableEncoder

BUILTIN_DIRECTORY = Path(__file__).parent / "builtin"
VISION = Path("onnx/vision_model.onnx")
INT8 = Path("onnx/vision_model_int8.onnx")
TEXT = Path("onnx/text_model.onnx")
TOKENIZER = Path("tokenizer.json")
TOKENIZER_CONFIG = Path("tokenizer_config.json")
PREPROCESSOR = Path("preprocessor_config.json")

UNKNOWN = "[UNK]"

# Batches side by side, each on a part of the cores, take less of them in all, as threads need not
# wait for each other within every operator: an eighth less on two cores (docs/performance.md).
# That needs the model a second time in memory, up to this size of its file.
MOST_TWICE_BYTES = 400_000_000
MOST_BESIDE = 4

# CLIP's context length (Radford et al., 2021, section 2.4 and its code).
CLIP_TOKENS = 77


class OnnxModel:
    """The image tower of a model directory and, if there is one, its text tower.

    `vision` is another file for the image tower, its int8 form. The image tower runs on the
    `provider`; texts, which come one by one and are short, run on the CPU. Raises
    `UnusableEncoder`, naming the file, if the directory has no such model, and `ProviderMissing`.
    """

    def __init__(
        self, directory: Path, *, name: str, vision: Path | None = None, provider: Provider = CPU
    ) -> None:
        self.name = name
        self.provider = provider.name
        self.largest_batch = provider.largest_batch
        self.precision = "fp32" if vision is None else "int8"
        self.fingerprint = fingerprint(directory)
        preprocessing = read_preprocessing(directory / PREPROCESSOR)
        # Measured for this model: docs/performance.md.
        self._preprocessing = replace(preprocessing, quick=directory == BUILTIN_DIRECTORY)
        self.side = self._preprocessing.side
        path = vision or directory / VISION
        self._vision = _vision(path, provider)
        self.threads = _threads_beside(path, provider)
        self._open_beside = cache(lambda: _open_beside(path, _cores() // self.threads))
        self._opening = Lock()
        self._text = _TextTower(directory) if (directory / TEXT).exists() else None
        self.dimensions = self._probe()

    @property
    def has_text(self) -> bool:
        """Whether the model has a text tower."""
        return self._text is not None

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the model's input for an RGB image: (3, height, width) float32."""
        return self._preprocessing(image)

    def embed_images(self, prepared: Sequence[NDArray[np.float32]]) -> Vectors:
        """Embed a batch of prepared images: (n, dimensions), not normalised."""
        return self._vision.run({"pixel_values": np.stack(prepared)})

    def embed_beside(self, prepared: Sequence[NDArray[np.float32]]) -> Vectors:
        """Do what `embed_images` does, on a part of the cores; thread-safe.

        Its session is opened at the first call.
        """
        with self._opening:
            tower = self._open_beside()
        return tower.run({"pixel_values": np.stack(prepared)})

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed a batch of texts: (n, dimensions), not normalised."""
        if self._text is None:
            raise RuntimeError("this model has no text tower")
        return self._text.embed(texts)

    def read(self, text: str) -> Reading:
        """Return how much of a text the model uses: nothing, without a text tower."""
        return Reading(is_empty=True) if self._text is None else self._text.read(text)

    def _probe(self) -> int:
        black = Image.new("RGB", (64, 64))
        try:
            vectors = self.embed_images([self.prepare(black)])
        except Exception as exc:
            raise UnusableEncoder(f"The model {self.name} cannot embed an image: {exc}") from exc
        if vectors.ndim != 2:
            raise UnusableEncoder(
                f"The model {self.name} returns the shape {vectors.shape}, "
                "not one vector per image."
            )
        return int(vectors.shape[1])


def _cores() -> int:
    return os.cpu_count() or 1


def _threads_beside(path: Path, provider: Provider) -> int:
    """Return how many batches are to be embedded side by side; 1 if only one after the other."""
    size = path.stat().st_size if path.exists() else 0
    # A graph with weights in files of their own is larger than it looks, and larger than 2 GB.
    is_small = size <= MOST_TWICE_BYTES and not [*path.parent.glob(f"{path.name}[_.]data")]
    return min(_cores(), MOST_BESIDE) if provider is CPU and is_small else 1


def _vision(path: Path, provider: Provider, cores: int | None = None) -> "_Tower":
    return _Tower(path, "pixel_values", "image_embeds", provider, cores)


def _open_beside(path: Path, cores: int) -> "_Tower":
    tower = _vision(path, CPU, cores)
    return_freed_memory()
    return tower


class _Tower:
    """An ONNX graph, of which one output is used; it runs on so many `cores`, by default all."""

    def __init__(
        self,
        path: Path,
        expected_input: str,
        output: str,
        provider: Provider = CPU,
        cores: int | None = None,
    ) -> None:
        if not path.exists():
            raise UnusableEncoder(
                f"There is no {path.parent.name}/{path.name} in {path.parent.parent}."
            )
        try:
            self._session = open_session(path, provider, cores)
        except ProviderMissing:
            raise
        except Exception as exc:
            raise UnusableEncoder(f"{path} is not an ONNX model that can be loaded: {exc}") from exc
        self.inputs: set[str] = {node.name for node in self._session.get_inputs()}
        outputs: list[str] = [node.name for node in self._session.get_outputs()]
        if expected_input not in self.inputs:
            raise UnusableEncoder(
                f"{path} has no input {expected_input}; it has {sorted(self.inputs)}."
            )
        if output not in outputs:
            raise UnusableEncoder(f"{path} has no output {output}; it has {outputs}.")
        self._output = output

    def fixed_length(self, name: str) -> int | None:
        """Return the second dimension of an input, None if it is dynamic."""
        shape: list[int | str] = next(
            node.shape for node in self._session.get_inputs() if node.name == name
        )
        length = shape[1]
        return length if isinstance(length, int) else None

    def run(self, feeds: dict[str, NDArray[Any]]) -> Vectors:
        (vectors,) = self._session.run([self._output], feeds)
        return np.asarray(vectors, dtype=np.float32)


class _TextTower:
    """The text tower and its tokenizer."""

    def __init__(self, directory: Path) -> None:
        self._tower = _Tower(directory / TEXT, "input_ids", "text_embeds")
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        except Exception as exc:
            raise UnusableEncoder(f"{directory / TOKENIZER} cannot be loaded: {exc}") from exc
        # Word-level tokenizers have a token for unknown words; CLIP's can spell every word.
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        length = self._tower.fixed_length("input_ids")
        # Truncation keeps the end-of-text token, at whose position CLIP reads the text's vector.
        self._tokenizer.enable_truncation(length or CLIP_TOKENS)
        self._tokenizer.enable_padding(
            length=length, pad_id=_pad_id(directory, self._tokenizer), pad_token=""
        )

    def read(self, text: str) -> Reading:
        encoding = self._tokenizer.encode(text)
        # Special tokens are those added to the text, padding included; unknown words are not.
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        unknown = [i for i in own if encoding.ids[i] == self._unknown]
        words = (text[slice(*encoding.offsets[i])] for i in unknown)
        return Reading(
            is_cut=bool(encoding.overflowing),
            unknown_words=tuple(dict.fromkeys(words)),
            is_empty=len(unknown) == len(own),
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch(list(texts))
        feeds = {"input_ids": np.array([encoding.ids for encoding in encodings], np.int64)}
        if "attention_mask" in self._tower.inputs:
            masks = [encoding.attention_mask for encoding in encodings]
            feeds["attention_mask"] = np.array(masks, np.int64)
        return self._tower.run(feeds)


def fingerprint(directory: Path) -> str:
    """Return a SHA-256 of the files that determine the vectors of images, in hexadecimal.

    Those of texts are not stored, so the text tower may be replaced without a new index. Precision
    does not count, since int8 is used only where it agrees with fp32.
    """
    digest = hashlib.sha256()
    for part in (VISION, PREPROCESSOR):
        path = directory / part
        if path.exists():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _pad_id(directory: Path, tokenizer: Tokenizer) -> int:
    """Return the id of the padding token: by default the end-of-text token, as in CLIP."""
    config: dict[str, Any] = {}
    path = directory / TOKENIZER_CONFIG
    if path.exists():
        config = json.loads(path.read_text("utf-8"))
    token: str | dict[str, str] | None = config.get("pad_token")
    if isinstance(token, dict):
        token = token["content"]
    known = tokenizer.token_to_id(token) if token else None
    if known is not None:
        return known
    return tokenizer.encode("").ids[-1] if tokenizer.encode("").ids else 0
