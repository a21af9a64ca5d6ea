"""Alembic's entry point: runs in the transaction of `database.py`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
