"""API keys: made once, stored as hashes, listed and revoked."""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal, cast, get_args

from sqlalchemy import BigInteger, DateTime, Row, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.problems import InvalidRequest, NotFound
from app.store.database import Database
from app.store.tables import API_KEYS

KeyScope = Literal["read", "write", "admin", "faces"]
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)

# So that scanners for leaked secrets, and people, know what they see.
PREFIX = "lk_"
RANDOM_BYTES = 32

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_IMPLIED: Mapping[KeyScope, tuple[KeyScope, ...]] = {
    "read": ("read",),
    "write": ("read", "write"),
    "admin": ("read", "write", "admin"),
    "faces": ("faces",),
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that was not revoked; `scopes` are those it was given, without what they imply."""

    id: int
    name: str
    sha256: bytes
    scopes: tuple[KeyScope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None

    @property
    def has_expired(self) -> bool:
        """Whether the key's time is over."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


def implied(scopes: Collection[KeyScope]) -> frozenset[KeyScope]:
    """Return scopes with those that they include: write reads, admin does all but faces."""
    return frozenset(one for scope in scopes for one in _IMPLIED[scope])


def hashed(secret: bytes) -> bytes:
    """Return what is stored of a key. It is random, so that a fast hash without salt will do."""
    return sha256(secret).digest()


class ApiKeys:
    """The table of keys; revoked ones stay in it, and are not returned."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, name: str, scopes: Sequence[KeyScope], *, expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; return it with its secret, which is stored nowhere.

        Raises `InvalidRequest` for a name that is malformed or in use, or an end in the past.
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                "A key's name has 1 to 63 letters, digits, dots, hyphens and underscores, and "
                "begins with a letter or digit."
            )
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidRequest("The key would have expired already.")
        secret = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        statement = (
            insert(API_KEYS)
            .values(
                name=name,
                sha256=hashed(secret.encode()),
                scopes=[scope for scope in SCOPES if scope in scopes],
                expires_at=expires_at,
            )
            .on_conflict_do_nothing()
            .returning(API_KEYS)
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise InvalidRequest(f"There is a key named {name} already.")
        return _key(row), secret

    async def all(self) -> list[ApiKey]:
        """Return the keys, also those that have expired, by name."""
        query = select(API_KEYS).where(API_KEYS.c.revoked_at.is_(None)).order_by(API_KEYS.c.name)
        async with self._database.begin() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def revoke(self, name: str) -> None:
        """Make a key invalid for ever; raises `NotFound`."""
        statement = (
            update(API_KEYS)
            .where(API_KEYS.c.name == name, API_KEYS.c.revoked_at.is_(None))
            .values(revoked_at=func.now())
            .returning(API_KEYS.c.id)
        )
        async with self._database.begin() as connection:
            if (await connection.execute(statement)).one_or_none() is None:
                raise NotFound(f"There is no key named {name}.")

    async def mark_used(self, used: Mapping[int, datetime]) -> None:
        """Write down when keys, by their ids, were last used; an older time changes nothing."""
        key_id = bindparam("key_id", type_=BigInteger())
        at = bindparam("at", type_=DateTime(timezone=True))
        statement = (
            update(API_KEYS)
            .where(API_KEYS.c.id == key_id)
            .where(or_(API_KEYS.c.used_at.is_(None), API_KEYS.c.used_at < at))
            .values(used_at=at)
        )
        # In the order of the ids, so that two processes do not deadlock.
        rows = [{"key_id": one, "at": used[one]} for one in sorted(used)]
        async with self._database.begin() as connection:
            await connection.execute(statement, rows)


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        sha256=bytes(row.sha256),
        scopes=tuple(cast(KeyScope, scope) for scope in row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )
