"""Hashes that show images in eight orientations, and the keys by which near ones are found."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # NULL until they are made from the thumbnail, for images that are there already.
    op.execute("ALTER TABLE images ADD COLUMN phash bigint, ADD COLUMN phash_keys integer[]")
    for part in (1, 2, 3):
        op.execute(f"CREATE INDEX images_phash_{part} ON images ((phash_keys[{part}]))")
    op.execute("CREATE INDEX images_without_phash ON images (id) WHERE phash IS NULL")
