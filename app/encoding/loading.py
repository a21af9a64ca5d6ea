"""The encoder that the settings and the existing index call for."""

from collections.abc import Callable, Sequence

from app.encoding.encoder import Encoder
from app.encoding.quantization import load
from app.encoding.weights import BUILTIN, find_weights
from app.settings import Settings

LLAMAINDEX = "llamaindex:"


def load_encoder(
    settings: Settings, *, indexed: Sequence[str], announce: Callable[[str], None]
) -> Encoder:
    """Load an encoder; `announce` is told what takes time or was decided.

    `indexed` holds the sources of existing indexes, the last used first: ENCODER=auto stays with
    that. Raises `UnusableEncoder`.
    """
    choice = indexed[0] if settings.encoder == "auto" and indexed else settings.encoder
    if choice.startswith(LLAMAINDEX):
        from app.encoding.clip import ClipModel

        return Encoder(ClipModel(choice.removeprefix(LLAMAINDEX)), source=choice)
    weights = find_weights(settings.encoder, indexed=indexed, announce=announce)
    precision = settings.precision
    if weights.name == BUILTIN and precision == "auto":
        # Convolutions gain nothing from int8 (design.md, decision 2).
        precision = "fp32"
    model = load(
        weights.directory,
        name=weights.name,
        precision=precision,
        data_dir=settings.data_dir,
        announce=announce,
    )
    return Encoder(model, source=weights.source)
