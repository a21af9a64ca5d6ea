"""Fetches lists and sitemaps from the web for code that reads them in a thread."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import monotonic

from app.indexing.fetcher import Fetched, Fetcher
from app.indexing.streams import charset_of, encoding_of, has_mark
from app.problems import FetchTimedOut

# The limit of sitemaps.org, doubled.
LIST_BYTES = 100_000_000
_GZIP = b"\x1f\x8b"


def list_fetcher(
    fetcher: Fetcher, *, kept_in: Path | None = None, within_s: float | None = None
) -> Callable[[str], bytes]:
    """Return a function that fetches lists, to be called in a thread; it uses the current loop.

    With `kept_in`, each list is fetched once and kept in that folder. After `within_s`, no more are
    fetched. The function raises what the fetcher raises, and `FetchTimedOut`.
    """
    loop, start = asyncio.get_running_loop(), monotonic()

    async def fetch(url: str) -> bytes:
        async with fetcher.fetched(url, max_bytes=LIST_BYTES) as answer:
            return _in_utf8(answer)

    def fetch_in_thread(url: str) -> bytes:
        kept = kept_in / sha256(url.encode("utf-8", "replace")).hexdigest() if kept_in else None
        if kept is not None and kept.exists():
            return kept.read_bytes()
        if within_s is not None and monotonic() - start > within_s:
            raise FetchTimedOut(f"All sitemaps together took longer than {within_s:g} s.")
        data = asyncio.run_coroutine_threadsafe(fetch(url), loop).result()
        if kept is not None:
            kept.write_bytes(data)
        return data

    return fetch_in_thread


def _in_utf8(answer: Fetched) -> bytes:
    """Return a list unchanged, or as UTF-8 if only its Content-Type declares its encoding."""
    data, charset = answer.data or b"", charset_of(answer.content_type)
    if charset in (None, "utf-8", "ascii") or data.startswith(_GZIP) or has_mark(data[:4]):
        return data
    return data.decode(encoding_of(data[:4], charset), "lookalike").encode("utf-8-sig")
