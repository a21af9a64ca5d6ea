"""The commands `stats` and `model`."""

from typing import Any

from app.cli.terminal import say, show_facts, show_json, show_line
from app.encoding.encoder import Encoder
from app.encoding.loading import load_encoder
from app.problems import InvalidRequest, NotFound
from app.settings import read_settings
from app.store.database import open_database
from app.store.encoders import drop_vectors, stored_vectors
from app.store.index import open_index


async def show_stats(*, as_json: bool) -> None:
    """Print how much is indexed, and with which encoder."""
    async with open_index(read_settings(), announce=say) as index:
        facts = (await index.stats()).model_dump(mode="json")
    if as_json:
        show_json(facts)
        return
    tables, keypoints = facts.pop("tables"), facts.pop("keypoints")
    facts["keypoints"] = f"{keypoints['made']} of {keypoints['of']} images"
    if facts["unhashed"] == 0:
        del facts["unhashed"]
    facts |= {f"encoder {key}": value for key, value in facts.pop("encoder").items()}
    milvus: dict[str, Any] = facts.pop("milvus") or {}
    facts |= {f"milvus {key}": value for key, value in milvus.items() if value is not None}
    copy_encoder = facts.pop("copy_encoder")
    if copy_encoder is None:
        del facts["copy_vectors"]
    else:
        facts |= {f"copy encoder {key}": value for key, value in copy_encoder.items()}
    show_facts(facts, as_json=False)
    for table in tables:
        show_line(_line(table))


async def show_encoder(*, as_json: bool) -> None:
    """Print the encoders in use."""
    async with open_index(read_settings(), announce=say) as index:
        spaces = index.spaces
        facts = _facts(spaces.semantic.encoder)
        if not spaces.are_one:
            facts |= {f"copy_{key}": value for key, value in _facts(spaces.copy.encoder).items()}
        show_facts(facts, as_json=as_json)


def drop_encoder(name: str) -> None:
    """Drop the vectors of an encoder that is no longer used.

    `name` is the encoder's name or source, or the name of the table.
    """
    settings = read_settings()
    database = open_database(settings, announce=say)
    try:
        with database.set_up() as connection:
            stored = stored_vectors(connection)
            found = [s for s in stored if name in (s.name, s.source, s.table)]
            if not found:
                known = ", ".join(s.name or s.table for s in stored) or "none"
                raise NotFound(f"No vectors of {name} are stored here; there are those of: {known}")
            if len(found) > 1:
                tables = ", ".join(s.table for s in found)
                raise InvalidRequest(f"Several tables have vectors of {name}; name one: {tables}")
            [unwanted] = found
            if unwanted.source and (unwanted == stored[0] or unwanted.source == settings.encoder):
                raise InvalidRequest(
                    f"{name} is the encoder in use: change it first (lookalike reindex --encoder)"
                )
            if unwanted.source == settings.copy_encoder:
                raise InvalidRequest(
                    f"{name} is the copy encoder in use: set COPY_ENCODER=off first"
                )
            drop_vectors(connection, unwanted.table)
    finally:
        database.close_set_up()
    say(f"Dropped {unwanted.table}, the vectors of {unwanted.name or 'an unfinished reindex'}.")


def fetch_encoder(name: str) -> None:
    """Download an encoder, make its int8 form and print its properties."""
    encoder = load_encoder(read_settings(encoder=name), indexed=(), announce=say)
    show_facts(_facts(encoder), as_json=False)
    encoder.close()


def _line(table: dict[str, Any]) -> str:
    """Return a table's size in words."""
    owner = table["encoder"] or "an unfinished reindex"
    used = "" if table["in_use"] else f" of {owner}, not in use"
    return f"table {table['name']}: {table['rows']} rows{used}, {table['bytes'] / 1e6:.1f} MB"


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
