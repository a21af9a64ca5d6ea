"""A model directory in ONNX Runtime.

The layout is that of the Hugging Face hub's ONNX exports of CLIP:

    onnx/vision_model.onnx     pixel_values -> image_embeds
    onnx/text_model.onnx       input_ids[, attention_mask] -> text_embeds   (optional)
    tokenizer.json             beside a text model
    preprocessor_config.json
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from app.encoding.encoder import Reading, Vectors
from app.encoding.preprocessing import read_preprocessing
from app.problems import UnusableEncoder

VISION = Path("onnx/vision_model.onnx")
TEXT = Path("onnx/text_model.onnx")
TOKENIZER = Path("tokenizer.json")
TOKENIZER_CONFIG = Path("tokenizer_config.json")
PREPROCESSOR = Path("preprocessor_config.json")

UNKNOWN = "[UNK]"

# CLIP's context length (Radford et al., 2021, section 2.4 and its code).
CLIP_TOKENS = 77


class OnnxModel:
    """The image tower of a model directory and, if there is one, its text tower.

    `vision` names another file for the image tower, such as its int8 form. Raises
    `UnusableEncoder`, naming the file, when the directory does not hold such a model.
    """

    def __init__(self, directory: Path, *, name: str, vision: Path | None = None) -> None:
        self.name = name
        self.precision = "fp32" if vision is None else "int8"
        self.fingerprint = fingerprint(directory)
        self._preprocessing = read_preprocessing(directory / PREPROCESSOR)
        self.side = self._preprocessing.side
        self._vision = _Tower(vision or directory / VISION, "pixel_values", "image_embeds")
        self._text = _TextTower(directory) if (directory / TEXT).exists() else None
        self.dimensions = self._probe()

    @property
    def has_text(self) -> bool:
        """Whether the model has a text tower."""
        return self._text is not None

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """Return an RGB picture as the model's input."""
        return self._preprocessing(image)

    def embed_images(self, prepared: Sequence[NDArray[np.float32]]) -> Vectors:
        """Embed a batch of prepared pictures: (n, dimensions), as the model gives them."""
        return self._vision.run({"pixel_values": np.stack(prepared)})

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed a batch of texts: (n, dimensions), as the model gives them."""
        if self._text is None:
            raise RuntimeError("this model has no text tower")
        return self._text.embed(texts)

    def read(self, text: str) -> Reading:
        """Return what the model makes of a text; nothing, if it reads pictures only."""
        return Reading(is_empty=True) if self._text is None else self._text.read(text)

    def _probe(self) -> int:
        black = Image.new("RGB", (64, 64))
        try:
            vectors = self.embed_images([self.prepare(black)])
        except Exception as exc:
            raise UnusableEncoder(f"The model {self.name} cannot embed a picture: {exc}") from exc
        if vectors.ndim != 2:
            raise UnusableEncoder(
                f"The model {self.name} answers with the shape {vectors.shape}, "
                "not one vector per picture."
            )
        return int(vectors.shape[1])


class _Tower:
    """One ONNX graph with one output that matters."""

    def __init__(self, path: Path, expected_input: str, output: str) -> None:
        if not path.exists():
            raise UnusableEncoder(
                f"There is no {path.parent.name}/{path.name} in {path.parent.parent}."
            )
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), _session_options())
        except Exception as exc:
            raise UnusableEncoder(f"{path} is not an ONNX model that can be loaded: {exc}") from exc
        self.inputs: set[str] = {given.name for given in self._session.get_inputs()}
        outputs: list[str] = [given.name for given in self._session.get_outputs()]
        if expected_input not in self.inputs:
            raise UnusableEncoder(
                f"{path} has no input {expected_input}; it has {sorted(self.inputs)}."
            )
        if output not in outputs:
            raise UnusableEncoder(f"{path} has no output {output}; it has {outputs}.")
        self._output = output

    def fixed_length(self, name: str) -> int | None:
        """Return the second dimension of an input, if the graph fixes it."""
        shape: list[int | str] = next(
            given.shape for given in self._session.get_inputs() if given.name == name
        )
        length = shape[1]
        return length if isinstance(length, int) else None

    def run(self, feeds: dict[str, NDArray[Any]]) -> Vectors:
        (vectors,) = self._session.run([self._output], feeds)
        return np.asarray(vectors, dtype=np.float32)


class _TextTower:
    """The text tower with its tokenizer."""

    def __init__(self, directory: Path) -> None:
        self._tower = _Tower(directory / TEXT, "input_ids", "text_embeds")
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        except Exception as exc:
            raise UnusableEncoder(f"{directory / TOKENIZER} cannot be loaded: {exc}") from exc
        # Whole words have one token for all that are unknown; CLIP spells out every word.
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        length = self._tower.fixed_length("input_ids")
        # The end-of-text token survives truncation: CLIP reads the text's vector at its place.
        self._tokenizer.enable_truncation(length or CLIP_TOKENS)
        self._tokenizer.enable_padding(
            length=length, pad_id=_pad_id(directory, self._tokenizer), pad_token=""
        )

    def read(self, text: str) -> Reading:
        encoding = self._tokenizer.encode(text)
        # Special tokens were added to the text; padding is one of them, the unknown word is not.
        own = [place for place, added in enumerate(encoding.special_tokens_mask) if not added]
        unknown = [place for place in own if encoding.ids[place] == self._unknown]
        words = (text[slice(*encoding.offsets[place])] for place in unknown)
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
    """Return a SHA-256 over the files that decide the vectors of pictures.

    Only these are stored, so that another text tower needs no other index. Precision is not part of
    it: int8 is kept only where it agrees with fp32.
    """
    digest = hashlib.sha256()
    for part in (VISION, PREPROCESSOR):
        path = directory / part
        if path.exists():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _pad_id(directory: Path, tokenizer: Tokenizer) -> int:
    """Return the id that the model was padded with: CLIP pads with its end-of-text token."""
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


def _session_options() -> Any:
    options = cast(Any, onnxruntime).SessionOptions()
    options.log_severity_level = 3
    # Spinning threads would take the cores that decoding and Postgres need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
