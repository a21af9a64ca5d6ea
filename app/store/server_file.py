"""The file by which commands find a running server of the same data.

The server holds a lock on it as long as it runs, so that a file that was left behind names none. It
is readable by the user of the data only, and has a secret that opens nothing but reading.
"""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from app.settings import Settings

NAME = "server.json"
SECRET_BYTES = 32
# A command that looks at the file holds it for a moment.
TRIES, BETWEEN_S = 20, 0.01


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server of the same data and settings, on this machine."""

    url: str
    secret: str


@contextmanager
def announced(settings: Settings, url: str) -> Generator[str | None]:
    """Name a server at this URL to commands within the context; yields the secret that they send.

    It is None, and nothing is named, if another server of this folder is, or if the folder cannot
    be written.
    """
    path = settings.data_dir / NAME
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield None
        return
    with os.fdopen(descriptor, "r+") as file:
        if not _locked(descriptor):
            yield None
            return
        secret = secrets.token_urlsafe(SECRET_BYTES)
        written = {"url": url, "secret": secret, "settings": _digest(settings, secret)}
        try:
            os.fchmod(descriptor, 0o600)
            file.truncate(0)
            json.dump(written, file)
            file.flush()
            yield secret
        finally:
            with suppress(OSError):
                path.unlink()


def running_server(settings: Settings) -> RunningServer | None:
    """Return the running server of this data, if its settings give the same results."""
    try:
        with (settings.data_dir / NAME).open(encoding="utf-8") as file:
            if _is_free(file.fileno()):
                return None
            given = json.load(file)
        url, secret, digest = (str(given[name]) for name in ("url", "secret", "settings"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not hmac.compare_digest(digest, _digest(settings, secret)):
        return None
    return RunningServer(url, secret)


def _locked(descriptor: int) -> bool:
    for _ in range(TRIES):
        with suppress(BlockingIOError):
            flock(descriptor, LOCK_EX | LOCK_NB)
            return True
        time.sleep(BETWEEN_S)
    return False


def _is_free(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        # Released when the file is closed.
        flock(descriptor, LOCK_SH | LOCK_NB)
        return True
    return False


def _digest(settings: Settings, secret: str) -> str:
    """Return a digest of what decides the results of a search; it reveals nothing of it."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    decisive = [
        url,
        settings.encoder,
        settings.precision,
        settings.min_similarity,
        settings.fetch_allow,
        settings.max_upload_mb,
        str(Path(settings.data_dir).absolute()),
    ]
    return hmac.new(secret.encode(), json.dumps(decisive).encode(), hashlib.sha256).hexdigest()
