"""API keys with names and scopes, of which only the SHA-256 is kept."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE api_keys (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL,
            sha256 bytea NOT NULL UNIQUE,
            scopes text[] NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,
            used_at timestamptz,
            revoked_at timestamptz
        )
    """)
    # The name of a revoked key may be given again.
    op.execute("CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL")
