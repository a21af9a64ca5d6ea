"""What jobs do to indexed images, which faces someone has removed, and two orders of lists."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN change jsonb")
    op.execute("ALTER TABLE faces ADD COLUMN removed boolean NOT NULL DEFAULT false")
    # Read forwards and backwards: biggest and smallest are one index (docs/performance.md).
    op.execute("CREATE INDEX images_pixels ON images ((width::bigint * height), id)")
    op.execute("CREATE INDEX images_bytes ON images (bytes, id)")
