"""Which parts of imports that are not whole yet are imported."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    # Both names are hashes: places and file names may hold passwords, or what is no text.
    op.execute("""
        CREATE TABLE imported_parts (
            place text,
            part text,
            images bigint NOT NULL,
            vectors bigint NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (place, part)
        )
    """)
