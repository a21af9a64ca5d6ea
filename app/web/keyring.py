"""The API keys that this process accepts: those of API_KEYS, and those of the database."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from time import monotonic

from pydantic import SecretStr

from app.problems import Unavailable
from app.store.keys import ApiKey, ApiKeys, KeyScope, hashed, implied

# A key that is added or revoked works, or stops working, within this time in every process.
TTL_S = 2.0
# How often the times of last use are written down.
USE_INTERVAL_S = 60.0

# The key that the file `server.json` has for commands; no key of the table can have this name.
COMMAND_LINE = "command line"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A valid key: its name, and all that it may do."""

    name: str
    scopes: frozenset[KeyScope]


class KeyRing:
    """The keys, read from the database at most every two seconds, when a request needs them.

    While the database is away, those read last stay valid: they open nothing without it.
    """

    def __init__(
        self,
        table: ApiKeys,
        *,
        configured: Sequence[SecretStr] = (),
        command_secret: str | None = None,
        ttl_s: float = TTL_S,
        use_interval_s: float = USE_INTERVAL_S,
    ) -> None:
        self._table = table
        self._configured = [
            (
                hashed(key.get_secret_value().encode()),
                # No name that a key of the table can have.
                Recognised(f"API_KEYS:{number}", implied(["write"])),
            )
            for number, key in enumerate(configured, 1)
        ]
        self._command = hashed(command_secret.encode()) if command_secret else None
        self._ttl_s = ttl_s
        self._use_interval_s = use_interval_s
        self._keys: list[ApiKey] | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._used: dict[int, datetime] = {}
        self._written_at = monotonic()
        self._writing: asyncio.Task[None] | None = None

    async def has_keys(self) -> bool:
        """Return whether there are keys, valid or expired: an expired one opens nothing."""
        return bool(self._configured or await self._current())

    async def find(self, secret: bytes) -> Recognised | None:
        """Return the valid key with this secret. Raises `Unavailable` if none were ever read."""
        given = hashed(secret)
        if self._command and compare_digest(given, self._command):
            return Recognised(COMMAND_LINE, implied(["read"]))
        # Every key is compared, so that the time reveals nothing.
        matching = [key for known, key in self._configured if compare_digest(given, known)]
        if matching:
            return matching[0]
        found = [key for key in await self._current() if compare_digest(given, key.sha256)]
        if not found or found[0].has_expired:
            return None
        self._note_use(found[0])
        return Recognised(found[0].name, implied(found[0].scopes))

    async def close(self) -> None:
        """Write down the last uses."""
        if self._writing is not None:
            await self._writing
        await self._write_uses()

    async def _current(self) -> list[ApiKey]:
        if self._keys is not None and monotonic() - self._read_at < self._ttl_s:
            return self._keys
        if self._keys is not None and self._reading.locked():
            return self._keys
        async with self._reading:
            if self._keys is None or monotonic() - self._read_at >= self._ttl_s:
                await self._read()
        return self._keys or []

    async def _read(self) -> None:
        started = monotonic()
        try:
            self._keys = await self._table.all()
            # Not the end: what was revoked while the statement ran is not in its answer.
            self._read_at = started
        except Unavailable as exc:
            if self._keys is None:
                raise
            self._read_at = monotonic()
            logger.warning("the API keys cannot be read, those known stay valid: %s", exc)

    def _note_use(self, key: ApiKey) -> None:
        self._used[key.id] = datetime.now(UTC)
        idle = self._writing is None or self._writing.done()
        if idle and monotonic() - self._written_at >= self._use_interval_s:
            self._written_at = monotonic()
            self._writing = asyncio.create_task(self._write_uses())

    async def _write_uses(self) -> None:
        used, self._used = self._used, {}
        try:
            if used:
                await self._table.mark_used(used)
        except Unavailable as exc:
            logger.warning("the last uses of API keys could not be written: %s", exc)
            self._used = used | self._used
