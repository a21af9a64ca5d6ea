"""The commands `stats` and `model`."""

from typing import Any

from app.cli.terminal import say, show_facts
from app.encoding.encoder import Encoder
from app.encoding.loading import load_encoder
from app.settings import read_settings
from app.store.index import open_index


async def show_stats(*, as_json: bool) -> None:
    """Print how much is indexed, and with which encoder."""
    async with open_index(read_settings(), announce=say) as index:
        facts = (await index.stats()).model_dump(mode="json")
    if not as_json:
        facts |= {f"encoder {key}": value for key, value in facts.pop("encoder").items()}
    show_facts(facts, as_json=as_json)


async def show_encoder(*, as_json: bool) -> None:
    """Print the encoder in use."""
    async with open_index(read_settings(), announce=say) as index:
        show_facts(_facts(index.encoder), as_json=as_json)


def fetch_encoder(name: str) -> None:
    """Download an encoder, make its int8 form and print its properties."""
    encoder = load_encoder(read_settings(encoder=name), indexed=(), announce=say)
    show_facts(_facts(encoder), as_json=False)
    encoder.close()


def _facts(encoder: Encoder) -> dict[str, Any]:
    model = encoder.model
    return {
        "name": model.name,
        "source": encoder.source,
        "precision": model.precision,
        "dimensions": model.dimensions,
        "text": model.has_text,
        "fingerprint": model.fingerprint,
    }
