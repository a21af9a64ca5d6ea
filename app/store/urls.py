"""What a URL may be: how long, and where its user and password go."""

import re
from urllib.parse import urlsplit

# Browsers and servers take no more.
LONGEST_URL = 8000
URL_TOO_LONG = f"The URL is longer than {LONGEST_URL:,} characters."

# A user and password stand between the slashes and the last @ before the path. Without slashes, or
# with too many, it is no URL that anyone fetches, and is not shown with a password either.
_USERINFO = re.compile(r"(\W*https?:[/\\]*)([^/?#]*)@", re.IGNORECASE)

_IN_TEXT = re.compile(r"(https?:[/\\]*)[^/?#\s]*@", re.IGNORECASE)


def is_web(url: str) -> bool:
    """Return whether a URL is fetched over HTTP."""
    return url[:8].lower().startswith(("http://", "https://"))


def split_credentials(url: str) -> tuple[str, str | None]:
    """Return a web URL without its user and password, and these as they stood, before the @.

    Of any other URL nothing is taken out.
    """
    found = _USERINFO.match(url) if "@" in url else None
    if found is None:
        return url, None
    return found[1] + url[found.end() :], found[2] or None


def without_credentials(text: str) -> str:
    """Return a text without the users and passwords of the web URLs in it."""
    return _IN_TEXT.sub(r"\1", text)


def with_credentials(url: str, credentials: str) -> str:
    """Return the URL that `split_credentials` took apart."""
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{credentials}@{rest}"


def host_of(url: str) -> str | None:
    """Return the host that a URL names, if it does."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
