"""Rules for URLs: their length, and their user and password."""

import re
from urllib.parse import urlsplit

# The usual limit of browsers and servers.
LONGEST_URL = 8000
URL_TOO_LONG = f"The URL is longer than {LONGEST_URL:,} characters."

# The user and password are between the slashes and the last @ before the path. A URL without
# slashes, or with too many, is never fetched, but must not be shown with its password either.
_USERINFO = re.compile(r"(\W*https?:[/\\]*)([^/?#]*)@", re.IGNORECASE)

_IN_TEXT = re.compile(r"(https?:[/\\]*)[^/?#\s]*@", re.IGNORECASE)


def is_web(url: str) -> bool:
    """Return whether a URL is fetched over HTTP."""
    return url[:8].lower().startswith(("http://", "https://"))


def split_credentials(url: str) -> tuple[str, str | None]:
    """Split a web URL into one without user and password, and these as written before the @.

    Any other URL is returned unchanged.
    """
    found = _USERINFO.match(url) if "@" in url else None
    if found is None:
        return url, None
    return found[1] + url[found.end() :], found[2] or None


def without_credentials(text: str) -> str:
    """Remove the users and passwords from all web URLs in a text."""
    return _IN_TEXT.sub(r"\1", text)


def loggable(url: str) -> str:
    """Return a URL for the log: without user, password, query and fragment, which hold secrets."""
    return re.split(r"[?#]", split_credentials(url)[0], maxsplit=1)[0]


def with_credentials(url: str, credentials: str) -> str:
    """Return the original URL; the inverse of `split_credentials`."""
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{credentials}@{rest}"


def host_of(url: str) -> str | None:
    """Return the host of a URL, if it has one."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
