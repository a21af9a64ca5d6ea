"""Loads the encoder that the settings choose."""

from collections.abc import Callable, Sequence
from typing import Literal

from app.encoding.encoder import Encoder
from app.encoding.lite import LITE
from app.encoding.quantization import load
from app.encoding.weights import BUILTIN, find_weights
from app.settings import Settings

LLAMAINDEX = "llamaindex:"
# The precisions of our own models, where the settings leave it open. The built-in model's
# convolutions are no faster in int8 (docs/design.md, decision 2); lite's text tower was trained
# with the int8 form of its image tower, whose results are as good (training/README.md).
PRECISIONS: dict[str, Literal["fp32", "int8"]] = {BUILTIN: "fp32", LITE: "int8"}


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
    return Encoder(model, source=weights.source)
