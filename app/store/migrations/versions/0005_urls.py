"""URLs of any length, and without the users and passwords in them; ids stay as they are."""

import json
import re

from alembic import op
from psycopg.types.json import Jsonb
from sqlalchemy import text

revision = "0005"
down_revision = "0004"

USERINFO = re.compile(r"(\W*https?:[/\\]*)([^/?#]*)@", re.IGNORECASE)
# The same for the database.
WITH_USERINFO = r"^\W*https?:[/\\]*[^/?#]*@"
# Titles may name several URLs.
IN_TITLES = re.compile(r"(https?:[/\\]*)[^/?#\s]*@", re.IGNORECASE)


def upgrade() -> None:
    op.execute("""
        ALTER TABLE images
            ADD COLUMN needs_credentials boolean NOT NULL DEFAULT false,
            ADD COLUMN renamed boolean NOT NULL DEFAULT false
    """)
    # The few images whose URL no longer decides their id are found by it.
    op.execute("CREATE INDEX images_renamed ON images USING hash (url) WHERE renamed")
    op.execute("ALTER TABLE job_items ADD COLUMN credentials text, ADD COLUMN image_id uuid")
    # A B-tree takes no URL of more than 2,700 bytes.
    op.execute("DROP INDEX job_items_captions")
    op.execute("""
        CREATE INDEX job_items_captions ON job_items USING hash (url)
        WHERE source = 'caption' AND state = 'waiting'
    """)
    _strip_items()
    _strip_vectors(_strip_images())
    _strip_titles()


def split_credentials(url: str) -> tuple[str, str | None]:
    found = USERINFO.match(url)
    return (found[1] + url[found.end() :], found[2] or None) if found else (url, None)


def _strip_items() -> None:
    """Before the images: by the URLs that both have, items learn the ids of theirs."""
    connection = op.get_bind()
    items = connection.execute(
        text("""
            SELECT job_id, position, source, job_items.url, state, images.id AS image_id
            FROM job_items LEFT JOIN images ON images.url = job_items.url
            WHERE job_items.url ~* :found
        """),
        {"found": WITH_USERINFO},
    )
    for item in items.all():
        url, credentials = split_credentials(item.url)
        # What waits to be fetched keeps them until it ends.
        kept = credentials if item.state == "waiting" and item.source == "web" else ""
        connection.execute(
            text("""
                UPDATE job_items SET url = :url, credentials = :credentials, image_id = :image_id
                WHERE job_id = :job_id AND position = :position
            """),
            {
                "url": url,
                "credentials": None if credentials is None else kept,
                "image_id": item.image_id,
                "job_id": item.job_id,
                "position": item.position,
            },
        )


def _strip_images() -> dict[str, str]:
    """Return the new URLs, by the ids of their images."""
    connection = op.get_bind()
    images = connection.execute(
        text("SELECT id, url FROM images WHERE url ~* :found"), {"found": WITH_USERINFO}
    )
    stripped: dict[str, str] = {}
    for image in images.all():
        url, credentials = split_credentials(image.url)
        stripped[str(image.id)] = url
        connection.execute(
            text("""
                UPDATE images SET url = :url, renamed = true, needs_credentials = :needed
                WHERE id = :id
            """),
            {"url": url, "needed": credentials is not None, "id": image.id},
        )
    return stripped


def _strip_vectors(urls: dict[str, str]) -> None:
    """Strip what LlamaIndex knows of images, which stands beside their vectors."""
    connection = op.get_bind()
    names = connection.scalars(
        text("""
            SELECT DISTINCT quote_ident(vector_table) FROM encoders
            WHERE to_regclass('public.' || quote_ident(vector_table)) IS NOT NULL
        """)
    )
    for name in names.all() if urls else ():
        rows = connection.execute(
            text(f"SELECT node_id, metadata_ FROM public.{name} WHERE node_id = ANY(:ids)"),  # noqa: S608
            {"ids": list(urls)},
        )
        for row in rows.all():
            connection.execute(
                text(f"UPDATE public.{name} SET metadata_ = :said WHERE node_id = :id"),  # noqa: S608
                {"said": Jsonb(_with_url(row.metadata_, urls[row.node_id])), "id": row.node_id},
            )


def _with_url(said: dict, url: str) -> dict:
    said = {**said, "url": url}
    if "_node_content" in said:
        node = json.loads(said["_node_content"])
        node.setdefault("metadata", {})["url"] = url
        said["_node_content"] = json.dumps(node, ensure_ascii=False)
    return said


def _strip_titles() -> None:
    """Strip the titles of jobs, which are called by what was given to index."""
    connection = op.get_bind()
    jobs = connection.execute(text("SELECT id, title FROM jobs WHERE title ~* 'https?:.*@'"))
    for job in jobs.all():
        connection.execute(
            text("UPDATE jobs SET title = :title WHERE id = :id"),
            {"title": IN_TITLES.sub(r"\1", job.title), "id": job.id},
        )
