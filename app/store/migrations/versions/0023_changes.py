"""What jobs do to indexed images, and which faces someone has removed from people."""

from alembic import op

revision = "0023"
down_revision = "0020"


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN change jsonb")
    op.execute("ALTER TABLE faces ADD COLUMN removed boolean NOT NULL DEFAULT false")
