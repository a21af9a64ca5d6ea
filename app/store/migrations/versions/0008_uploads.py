"""Uploads that are on their way to a row claim their file, so that no delete takes it."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE upload_claims (
            id uuid PRIMARY KEY,
            sha256 text NOT NULL,
            claimed_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX upload_claims_sha256 ON upload_claims (sha256)")
