"""Finds the model directory: built in, a folder, cached, or downloaded from the hub."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    HfApi,
    snapshot_download,  # pyright: ignore[reportUnknownVariableType]
)
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from app.problems import UnusableEncoder

CLIP = "Xenova/clip-vit-base-patch32"
BUILTIN = "builtin"
BUILTIN_DIRECTORY = Path(__file__).parent / "builtin"
HUB_TIMEOUT_S = 3

FILES = (
    "onnx/vision_model.onnx",
    "onnx/vision_model.onnx_data",
    "onnx/text_model.onnx",
    "onnx/text_model.onnx_data",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""The files that are downloaded from a hub repository, if they exist."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model directory; `source` is the value of `ENCODER` that selects it."""

    name: str
    directory: Path
    source: str


def find_weights(
    choice: str, *, indexed: Sequence[str], announce: Callable[[str], None]
) -> Weights:
    """Return the model directory that a value of `ENCODER` selects, downloaded if need be.

    `indexed` holds the sources of the encoders with an index, the last used first, which `auto`
    keeps using. Decisions that could surprise are announced. Raises `UnusableEncoder`.
    """
    if choice == "auto":
        return _auto(indexed, announce)
    if choice == BUILTIN:
        return Weights(BUILTIN, BUILTIN_DIRECTORY, BUILTIN)
    if choice == "clip":
        return _from_hub(CLIP, announce)
    folder = Path(choice).expanduser()
    if folder.is_dir():
        return Weights(folder.resolve().name, folder, str(folder.resolve()))
    if choice.count("/") == 1 and not choice.startswith(("/", ".", "~")):
        return _from_hub(choice, announce)
    raise UnusableEncoder(
        f"ENCODER={choice} is neither auto, builtin, clip, a hub id (owner/name), llamaindex:NAME "
        "nor a folder that exists."
    )


def _auto(indexed: Sequence[str], announce: Callable[[str], None]) -> Weights:
    if indexed:
        announce(f"Using the encoder of the existing index: {indexed[0]}")
        return find_weights(indexed[0], indexed=(), announce=announce)
    cached = _cached(CLIP)
    if cached:
        return cached
    reason = "the Hugging Face hub does not answer"
    if _hub_answers(CLIP):
        try:
            return _from_hub(CLIP, announce)
        except UnusableEncoder as exc:
            reason = exc.detail
    announce(
        f"CLIP is not available ({reason}): using the built-in encoder, which finds copies and "
        "similar images and knows some 8,000 words; ENCODER=clip understands more"
    )
    return Weights(BUILTIN, BUILTIN_DIRECTORY, BUILTIN)


def _cached(repository: str) -> Weights | None:
    try:
        path = snapshot_download(repository, allow_patterns=list(FILES), local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    directory = Path(path)
    complete = all((directory / name).exists() for name in (FILES[0], "preprocessor_config.json"))
    return Weights(repository, directory, repository) if complete else None


def _hub_answers(repository: str) -> bool:
    try:
        HfApi().model_info(repository, timeout=HUB_TIMEOUT_S)
    except Exception:
        return False
    return True


def _from_hub(repository: str, announce: Callable[[str], None]) -> Weights:
    """Return a repository's files from the cache, or download them."""
    cached = _cached(repository)
    if cached:
        return cached
    announce(f"Downloading {repository} from the Hugging Face hub (once)")
    try:
        path = snapshot_download(repository, allow_patterns=list(FILES))
    except Exception as exc:
        if isinstance(exc, HfHubHTTPError) and exc.response.status_code in (401, 404):
            raise UnusableEncoder(f"The Hugging Face hub has no model {repository}.") from exc
        raise UnusableEncoder(
            f"{repository} is not cached and could not be downloaded from the Hugging Face hub: "
            f"{str(exc).splitlines()[0]}. ENCODER=builtin needs no download."
        ) from exc
    if not (Path(path) / FILES[0]).exists():
        raise UnusableEncoder(
            f"{repository} on the Hugging Face hub is not an ONNX export: it has no {FILES[0]}."
        )
    return Weights(repository, Path(path), repository)
