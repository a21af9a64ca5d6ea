"""Finds the model directory: built in, made here, a folder, cached, or downloaded from the hub."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.encoding.lite import LITE, lite_directory
from app.encoding.onnx_model import BUILTIN_DIRECTORY
from app.problems import UnusableEncoder

CLIP = "Xenova/clip-vit-base-patch32"
BUILTIN = "builtin"


@dataclass(frozen=True, slots=True)
class Weights:
    """A model directory; `source` is the value of `ENCODER` that selects it."""

    name: str
    directory: Path
    source: str


def find_weights(
    choice: str, *, indexed: Sequence[str], data_dir: Path, announce: Callable[[str], None]
) -> Weights:
    """Return the model directory that a value of `ENCODER` selects, downloaded or made if need be.

    `indexed` holds the sources of the encoders with an index, the last used first, which `auto`
    keeps using; a directory is made under `data_dir`. Decisions that could surprise are announced.
    Raises `UnusableEncoder`.
    """
    if choice == "auto":
        return _auto(indexed, data_dir, announce)
    if choice == BUILTIN:
        return Weights(BUILTIN, BUILTIN_DIRECTORY, BUILTIN)
    if choice == LITE:
        return Weights(LITE, lite_directory(data_dir, announce), LITE)
    if choice == "clip":
        return _from_hub(CLIP, announce)
    folder = Path(choice).expanduser()
    if folder.is_dir():
        return Weights(folder.resolve().name, folder, str(folder.resolve()))
    if choice.count("/") == 1 and not choice.startswith(("/", ".", "~")):
        return _from_hub(choice, announce)
    raise UnusableEncoder(
        f"ENCODER={choice} is neither auto, builtin, lite, clip, a hub id (owner/name), "
        "llamaindex:NAME nor a folder that exists."
    )


def _auto(indexed: Sequence[str], data_dir: Path, announce: Callable[[str], None]) -> Weights:
    if indexed:
        announce(f"Using the encoder of the existing index: {indexed[0]}")
        return find_weights(indexed[0], indexed=(), data_dir=data_dir, announce=announce)
    # Imported here, as below: the hub's client takes as long as the rest of a small command.
    from app.encoding import hub

    folder = hub.cached(CLIP)
    if folder:
        return Weights(CLIP, folder, CLIP)
    reason = "the Hugging Face hub does not answer"
    if hub.answers(CLIP):
        try:
            return _from_hub(CLIP, announce)
        except UnusableEncoder as exc:
            reason = exc.detail
    announce(
        f"CLIP is not available ({reason}): using the encoder lite, which sees what an image shows "
        "and knows some 8,000 words; ENCODER=clip understands more"
    )
    return Weights(LITE, lite_directory(data_dir, announce), LITE)


def _from_hub(repository: str, announce: Callable[[str], None]) -> Weights:
    from app.encoding import hub

    return Weights(repository, hub.fetch(repository, announce), repository)
