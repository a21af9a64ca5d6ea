"""What a server answers when it does not do what it was asked for."""

from typing import Any, cast

import httpx

NoAnswer = httpx.HTTPError
"""Raised if a server cannot be reached, or breaks off."""


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A problem document (RFC 9457), or another answer that is no success.

    `slug` tells kinds of problems apart, such as `not-a-picture`; the server's /docs lists them. It
    is empty if something else than the server answered, a proxy for example. `request_id` names the
    request in the server's log. `retry_after_s` says when a retry makes sense, if that is known.
    """

    def __init__(
        self,
        *,
        status: int,
        detail: str,
        slug: str = "",
        request_id: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.slug = slug
        self.request_id = request_id
        self.retry_after_s = retry_after_s


def problem_of(response: httpx.Response) -> Problem:
    """Return the problem of a response, whose body has been read."""
    document: Any = {}
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        document = response.json()
    given = cast(dict[str, Any], document)
    after = response.headers.get("retry-after", "")
    return Problem(
        status=response.status_code,
        detail=given.get("detail", f"The server answers {response.status_code}."),
        slug=given.get("type", "").partition("#")[2],
        request_id=given.get("request_id", ""),
        retry_after_s=int(after) if after.isdecimal() else None,
    )
