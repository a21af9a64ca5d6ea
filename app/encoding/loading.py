"""Loads the encoders that the settings choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from app.encoding.encoder import Encoder
from app.encoding.lite import LITE
from app.encoding.memory import return_freed_memory
from app.encoding.quantization import load
from app.encoding.weights import BUILTIN, find_weights
from app.settings import Settings

LLAMAINDEX = "llamaindex:"
# The precisions of our own models, where the settings leave it open. The built-in model's
# convolutions are no faster in int8 (docs/design.md, decision 2); lite's text tower was trained
# with the int8 form of its image tower, whose results are as good (training/README.md).
PRECISIONS: dict[str, Literal["fp32", "int8"]] = {BUILTIN: "fp32", LITE: "int8"}


@dataclass(frozen=True, slots=True)
class Encoders:
    """The encoder that knows the same image again, and the one that sees what an image shows.

    Where one serves for both, they are one object.
    """

    copy: Encoder
    semantic: Encoder

    @classmethod
    def single(cls, encoder: Encoder) -> "Encoders":
        """Return an encoder that serves for both."""
        return cls(encoder, encoder)

    @property
    def are_one(self) -> bool:
        """Whether one encoder serves for both."""
        return self.copy is self.semantic

    def close(self) -> None:
        """Embed what is queued, then stop the threads."""
        self.semantic.close()
        if not self.are_one:
            self.copy.close()


def load_encoders(
    settings: Settings,
    *,
    indexed: Sequence[str],
    announce: Callable[[str], None],
    completing: bool = False,
) -> Encoders:
    """Load the encoders of an index, as `load_encoder` does.

    An index that has vectors of the semantic encoder and none of the copy encoder, as those of
    older versions do, goes on with the former alone, unless it is being `completing`: it lacks the
    copy vectors of all of its images until `reindex` has made them.
    """
    semantic = load_encoder(settings, indexed=indexed, announce=announce)
    if semantic.source == BUILTIN:
        if settings.encoder == "auto" and not completing:
            announce(
                "This index has copy vectors only, which hardly see what an image shows: "
                "`lookalike reindex --encoder lite` adds vectors that do"
            )
        return Encoders.single(semantic)
    if settings.copy_encoder == "off":
        return Encoders.single(semantic)
    if semantic.source in indexed and BUILTIN not in indexed and not completing:
        announce(
            "This index has no copy vectors: `lookalike reindex --copy` adds them, by which "
            "altered copies of an image are found far better"
        )
        return Encoders.single(semantic)
    chosen = settings.model_copy(update={"encoder": BUILTIN})
    return Encoders(load_encoder(chosen, indexed=(), announce=announce), semantic)


def load_encoder(
    settings: Settings, *, indexed: Sequence[str], announce: Callable[[str], None]
) -> Encoder:
    """Load an encoder; `announce` is called with one line per slow step or decision.

    `indexed` holds the sources of the encoders with an index, the last used first, which
    ENCODER=auto keeps using. Raises `UnusableEncoder`.
    """
    choice = indexed[0] if settings.encoder == "auto" and indexed else settings.encoder
    if choice.startswith(LLAMAINDEX):
        from app.encoding.clip import ClipModel

        return Encoder(ClipModel(choice.removeprefix(LLAMAINDEX)), source=choice)
    weights = find_weights(
        settings.encoder, indexed=indexed, data_dir=settings.data_dir, announce=announce
    )
    precision = settings.precision
    if precision == "auto" and weights.name in PRECISIONS:
        precision = PRECISIONS[weights.name]
    model = load(
        weights.directory,
        name=weights.name,
        precision=precision,
        data_dir=settings.data_dir,
        announce=announce,
        providers=settings.providers,
    )
    return_freed_memory()
    return Encoder(model, source=weights.source)
