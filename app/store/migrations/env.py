"""Alembic's entry: runs in the transaction that `database.py` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
