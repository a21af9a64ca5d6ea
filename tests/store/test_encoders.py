from app.lookalike import Lookalike
from app.store.encoders import record_encoder, stored_vectors
from app.store.vectors import VectorTable


def test_of_encoders_recorded_together_the_last_is_the_last_used(
    lookalike: Lookalike,
) -> None:
    names = ["c", "a", "b"]
    tables = [VectorTable(lookalike.database, name, dimensions=3) for name in names]
    with lookalike.database.set_up() as connection:
        for name, table in zip(names, tables, strict=True):
            table.set_up(connection)
            record_encoder(
                connection,
                source=name,
                name=name,
                fingerprint=name,
                dimensions=3,
                vector_table=table.table.name,
            )
    with lookalike.database.set_up() as connection:
        used = [stored.source for stored in stored_vectors(connection)]
    assert used[:3] == ["b", "a", "c"]
