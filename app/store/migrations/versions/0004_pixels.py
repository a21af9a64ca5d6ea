"""What decoding says of a picture: whether it is cut or too plain, and which version read it."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Rows of before were read by decoder 0: they are better read again.
    op.execute("""
        ALTER TABLE images
            ADD COLUMN truncated boolean NOT NULL DEFAULT false,
            ADD COLUMN too_plain boolean NOT NULL DEFAULT false,
            ADD COLUMN decoder integer NOT NULL DEFAULT 0
    """)
    op.execute("CREATE INDEX images_decoder ON images (decoder)")
    _name_jpegs()


def _name_jpegs() -> None:
    """Call a JPEG with further pictures in it a JPEG, here and beside the vectors."""
    op.execute("UPDATE images SET format = 'JPEG' WHERE format = 'MPO'")
    op.execute("""
        DO $$
        DECLARE
            vectors text;
        BEGIN
            FOR vectors IN
                SELECT vector_table FROM encoders JOIN information_schema.columns
                ON table_name = vector_table AND column_name = 'labels'
                WHERE table_schema = current_schema()
            LOOP
                EXECUTE format(
                    'UPDATE %I SET labels = array_replace(labels, $1, $2) WHERE $1 = ANY (labels)',
                    vectors
                ) USING 'format:mpo', 'format:jpeg';
            END LOOP;
        END $$
    """)
