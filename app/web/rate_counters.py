"""What each client has used of its rate limits: counted here, or in a Redis that servers share."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic, time
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError, StorageError

from app.problems import MissingPackage, WrongSetting
from app.settings import Settings

# Some 2 MB. Who has more addresses than this can make the server forget, but needs no such trick.
MOST_CLIENTS = 10_000
REDIS_TIMEOUT_S = 0.5
# After a failure of Redis, each process counts for itself for this long.
REDIS_PAUSE_S = 10.0
MOST_CONNECTIONS = 50

logger = logging.getLogger(__name__)


class BoundedStorage(Storage):
    """Counters in memory, of the clients seen last only.

    The package's own keeps every client until a pass over all of them finds it expired.
    """

    STORAGE_SCHEME = None

    def __init__(self, *, most: int = MOST_CLIENTS) -> None:
        super().__init__()
        self._most = most
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def base_exceptions(self) -> type[Exception]:
        """The errors to wrap; there are none."""
        return StorageError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and return the count; a new counter ends after `expiry` seconds."""
        count, ends_at = self._counters.pop(key, (0, 0.0))
        if ends_at <= time():
            count, ends_at = 0, time() + expiry
        self._counters[key] = count + amount, ends_at
        if len(self._counters) > self._most:
            self._counters.popitem(last=False)
        return count + amount

    async def get(self, key: str) -> int:
        """Return a count."""
        count, ends_at = self._counters.get(key, (0, 0.0))
        return count if ends_at > time() else 0

    async def get_expiry(self, key: str) -> float:
        """Return when a counter ends, in seconds since 1970; now if there is none."""
        return max(time(), self._counters.get(key, (0, 0.0))[1])

    async def check(self) -> bool:
        """Return whether the storage works."""
        return True

    async def reset(self) -> int:
        """Forget all clients; return their number."""
        number = len(self._counters)
        self._counters.clear()
        return number

    async def clear(self, key: str) -> None:
        """Forget a client."""
        self._counters.pop(key, None)


@dataclass(frozen=True, slots=True)
class Use:
    """What a client has left of one limit of `amount` per `window_s`, until `reset_s` from now."""

    amount: int
    window_s: int
    remaining: int
    reset_s: int
    granted: bool


class RateCounters:
    """Counts what clients use, in fixed windows that begin with the first request.

    Raises `WrongSetting` or `MissingPackage` if RATE_LIMIT_URL cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._items: list[RateLimitItem] = [parse(limit) for limit in settings.rate_limit]
        self._local = FixedWindowRateLimiter(BoundedStorage())
        self._pool: Any = None
        self._shared: FixedWindowRateLimiter | None = None
        self._paused_until = 0.0
        if settings.rate_limit_url is not None:
            self._shared = self._open_redis(settings.rate_limit_url.get_secret_value())

    async def take(self, client: str, cost: int) -> Sequence[Use]:
        """Take `cost` from every limit of a client, or from none if one has less left."""
        if self._shared is not None and monotonic() >= self._paused_until:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    return await self._take(self._shared, client, cost)
            except (StorageError, OSError) as exc:
                self._paused_until = monotonic() + REDIS_PAUSE_S
                cause = exc.storage_error if isinstance(exc, StorageError) else exc
                logger.warning(
                    "RATE_LIMIT_URL does not answer, each server counts for itself: %r", cause
                )
        return await self._take(self._local, client, cost)

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _take(self, limiter: FixedWindowRateLimiter, client: str, cost: int) -> Sequence[Use]:
        uses = [await self._left(limiter, item, client, cost) for item in self._items]
        if not all(use.granted for use in uses):
            return uses
        return [
            await self._spend(limiter, item, client, cost, use)
            for item, use in zip(self._items, uses, strict=True)
        ]

    async def _left(
        self, limiter: FixedWindowRateLimiter, item: RateLimitItem, client: str, cost: int
    ) -> Use:
        left = await limiter.get_window_stats(item, client)
        window_s = item.get_expiry()
        new = left.remaining == item.amount
        reset_s = window_s if new else max(1, ceil(left.reset_time - time()))
        granted = cost <= left.remaining
        return Use(item.amount, window_s, left.remaining, reset_s, granted)

    async def _spend(
        self,
        limiter: FixedWindowRateLimiter,
        item: RateLimitItem,
        client: str,
        cost: int,
        use: Use,
    ) -> Use:
        # Another server may have taken the rest meanwhile.
        granted = await limiter.hit(item, client, cost=cost)
        remaining = use.remaining - cost if granted else 0
        return Use(use.amount, use.window_s, remaining, use.reset_s, granted)

    def _open_redis(self, url: str) -> FixedWindowRateLimiter:
        try:
            from redis.asyncio import BlockingConnectionPool
        except ImportError as exc:
            raise MissingPackage(
                "RATE_LIMIT_URL needs redis-py: pip install 'lookalike[redis]'"
            ) from exc
        try:
            self._pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MOST_CONNECTIONS,
                timeout=REDIS_TIMEOUT_S,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
            )
            options: Any = {"connection_pool": self._pool, "implementation": "redispy"}
            # Its own URL is not used, as the pool connects.
            storage = RedisStorage("async+redis://localhost:6379", wrap_exceptions=True, **options)
        except (ValueError, ConfigurationError) as exc:
            raise WrongSetting("RATE_LIMIT_URL is not a URL like redis://host:6379/0") from exc
        return FixedWindowRateLimiter(storage)
