"""The SQL statements that requests run."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from app.encoding.encoder import Encoder
from app.settings import Settings
from app.web.server import create_app
from tests.conftest import Server, client_of, opened
from tests.live import Loop


@contextmanager
def counting(
    settings: Settings, loop: Loop, encoder: Encoder
) -> Generator[tuple[Server, list[str]]]:
    """A server without a worker, and the statements that it runs."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The keys are read again every few seconds, by whatever request comes then.
        if "api_keys" not in statement:
            statements.append(statement)

    # A worker would have statements of its own.
    idle = settings.model_copy(update={"worker": False})
    with (
        opened(idle, loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        event.listen(lookalike.database.engine.sync_engine, "before_cursor_execute", note)
        yield Server(address, client, lookalike), statements
