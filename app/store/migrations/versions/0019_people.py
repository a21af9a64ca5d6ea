"""People: groups of faces, which someone may name, merge and split; an index of the vectors."""

from alembic import op

revision = "0019"
down_revision = "0016"


def upgrade() -> None:
    op.execute("CREATE INDEX faces_vector ON faces USING hnsw (vector halfvec_cosine_ops)")
    op.execute("""
        CREATE TABLE people (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text NOT NULL DEFAULT '',
            made_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # A face is of one person at most. It is `placed` once someone, or the rule, has decided that.
    op.execute("""
        ALTER TABLE faces
        ADD COLUMN person_id uuid REFERENCES people (id) ON DELETE SET NULL,
        ADD COLUMN placed boolean NOT NULL DEFAULT false
    """)
    op.execute("CREATE INDEX faces_person ON faces (person_id) WHERE person_id IS NOT NULL")
    op.execute("""
        CREATE INDEX faces_to_place ON faces (image_id, "order")
        WHERE NOT placed AND vector IS NOT NULL
    """)
    _forget_with_the_last_face()


def _forget_with_the_last_face() -> None:
    """Let a person end, with the name, when no face is left; at the end of the transaction."""
    op.execute("""
        CREATE FUNCTION forget_person() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- Of two who delete the last two faces, the second one sees that none is left.
            PERFORM pg_advisory_xact_lock(1885696110);
            DELETE FROM people WHERE id = OLD.person_id
            AND NOT EXISTS (SELECT FROM faces WHERE person_id = OLD.person_id);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER person_faces_deleted AFTER DELETE ON faces
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.person_id IS NOT NULL)
        EXECUTE FUNCTION forget_person()
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER person_faces_moved AFTER UPDATE OF person_id ON faces
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.person_id IS NOT NULL AND OLD.person_id IS DISTINCT FROM NEW.person_id)
        EXECUTE FUNCTION forget_person()
    """)
