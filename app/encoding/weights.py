"""Which model: built in, cached, from the hub, or a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.problems import UnusableEncoder

CLIP = "Xenova/clip-vit-base-patch32"
BUILTIN = "builtin"
BUILTIN_DIRECTORY = Path(__file__).parent / "builtin"


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
    # Imported here, as below: the hub's client takes as long as the rest of a small command.
    from app.encoding import hub

    folder = hub.cached(CLIP)
    if folder:
        return Weights(CLIP, folder, CLIP)
    reason = "the hub does not answer"
    if hub.answers(CLIP):
        try:
            return _from_hub(CLIP, announce)
        except UnusableEncoder as exc:
            reason = exc.detail
    announce(
        f"CLIP's weights are not here ({reason}): using the built-in encoder, which finds copies "
        "and look-alikes, and knows some thousand words; ENCODER=clip understands more"
    )
    return Weights(BUILTIN, BUILTIN_DIRECTORY, BUILTIN)


def _from_hub(repository: str, announce: Callable[[str], None]) -> Weights:
    from app.encoding import hub

    return Weights(repository, hub.fetch(repository, announce), repository)
