"""Which model: built in, cached, from the hub, or a folder."""

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
HUB_ANSWERS_WITHIN_S = 3

FILES = (
    "onnx/vision_model.onnx",
    "onnx/vision_model.onnx_data",
    "onnx/text_model.onnx",
    "onnx/text_model.onnx_data",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What is fetched of a hub repository."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model directory, its name, and the value of `ENCODER` that leads to it again."""

    name: str
    directory: Path
    source: str


def find_weights(
    choice: str, *, indexed: Sequence[str], announce: Callable[[str], None]
) -> Weights:
    """Return the model directory that `ENCODER` means, downloading it if need be.

    `indexed` holds the sources of existing indexes, the last used first: `auto` stays with that.
    Each decision that a user would wonder about is announced. Raises `UnusableEncoder`.
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
        announce(f"The index was made with the encoder {indexed[0]}: staying with it")
        return find_weights(indexed[0], indexed=(), announce=announce)
    cached = _cached(CLIP)
    if cached:
        return cached
    reason = "the hub does not answer"
    if _hub_answers(CLIP):
        try:
            return _from_hub(CLIP, announce)
        except UnusableEncoder as exc:
            reason = exc.detail
    announce(
        f"CLIP's weights are not here ({reason}): using the built-in encoder, which finds copies "
        "and look-alikes, and knows some thousand words; ENCODER=clip understands more"
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
        HfApi().model_info(repository, timeout=HUB_ANSWERS_WITHIN_S)
    except Exception:
        return False
    return True


def _from_hub(repository: str, announce: Callable[[str], None]) -> Weights:
    """Return the repository's files: cached ones as they are, missing ones downloaded."""
    cached = _cached(repository)
    if cached:
        return cached
    announce(f"Fetching {repository} from the Hugging Face hub (once)")
    try:
        path = snapshot_download(repository, allow_patterns=list(FILES))
    except Exception as exc:
        if isinstance(exc, HfHubHTTPError) and exc.response.status_code in (401, 404):
            raise UnusableEncoder(f"The hub has no model {repository}.") from exc
        raise UnusableEncoder(
            f"{repository} is not cached here and could not be fetched from the hub: "
            f"{str(exc).splitlines()[0]}. ENCODER=builtin needs no download."
        ) from exc
    if not (Path(path) / FILES[0]).exists():
        raise UnusableEncoder(
            f"{repository} on the hub has no {FILES[0]}: it is not an ONNX export."
        )
    return Weights(repository, Path(path), repository)
