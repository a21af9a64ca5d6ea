from sqlalchemy import text

from app.lookalike import Lookalike
from app.store.encoders import indexed_encoders, record_encoder, stored_vectors
from app.store.vectors import VectorTable


def recorded(lookalike: Lookalike, name: str, *, source: str) -> str:
    """Record an encoder as the one in use; return the name of its table, without vectors."""
    table = VectorTable(lookalike.database, name, dimensions=3)
    with lookalike.database.set_up() as connection:
        table.set_up(connection)
        record_encoder(
            connection,
            source=source,
            name=name,
            fingerprint=name,
            dimensions=3,
            vector_table=table.table.name,
        )
    return table.table.name


def test_of_encoders_recorded_together_the_last_is_the_last_used(
    lookalike: Lookalike,
) -> None:
    for name in ("c", "a", "b"):
        recorded(lookalike, name, source=name)
    with lookalike.database.set_up() as connection:
        used = [stored.source for stored in stored_vectors(connection)]
    assert used[:3] == ["b", "a", "c"]


def test_a_new_version_of_an_encoder_is_that_of_the_index_before_it_has_vectors(
    lookalike: Lookalike,
) -> None:
    """Otherwise the second start of a newer program would choose the encoder used before."""
    tables = [recorded(lookalike, name, source="lite") for name in ("old", "new")]
    recorded(lookalike, "never", source="never")
    other = recorded(lookalike, "other", source="other")
    recorded(lookalike, "new", source="lite")
    with lookalike.database.set_up() as connection:
        for name in (tables[0], other):
            values = "INSERT INTO {} (node_id, text, embedding) VALUES ('n', '', '[1,2,3]')"
            connection.execute(text(values.format(name)))
        assert indexed_encoders(connection)[:2] == ["lite", "other"]
