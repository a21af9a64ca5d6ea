"""What a job does to images that are indexed: edits them, or moves them to the trash and back."""

from alembic import op

revision = "0023"
down_revision = "0020"


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN change jsonb")
