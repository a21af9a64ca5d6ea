"""Everything that can go wrong, as one tree; each docstring is the sentence a user reads.

    Problem
    ├── StartProblem            the server or command cannot start (exit code 1)
    │   ├── WrongSetting
    │   ├── UnusableDatabase
    │   └── UnusableEncoder
    ├── InvalidRequest
    │   ├── NoPicture
    │   ├── NoTextTower
    │   ├── QueryCancels
    │   ├── NotFound
    │   ├── MethodNotAllowed
    │   └── BodyTooLarge
    ├── AccessProblem
    │   ├── KeyRequired
    │   └── NotAllowed
    ├── PictureProblem          these bytes cannot be used as a picture
    │   ├── EmptyPicture
    │   ├── NotAPicture
    │   ├── DamagedPicture
    │   ├── TooManyPixels
    │   └── PictureTooLarge
    ├── FetchProblem            this URL gave no bytes
    │   ├── BadUrl
    │   ├── AddressRefused
    │   ├── CredentialsDropped
    │   ├── UrlNotFound
    │   ├── UrlRefused
    │   ├── TooManyRedirects
    │   ├── FetchTimedOut
    │   └── FetchFailed
    ├── CaptionProblem          no title and description for this picture
    │   ├── CaptionFailed
    │   ├── CaptionRefused
    │   └── CaptionBudgetSpent
    └── Unavailable
        ├── DatabaseUnavailable
        └── TooBusy

A problem is rendered three ways: as an HTTP document (`document()`, RFC 9457), as the reason of one
picture's outcome, and as a line of the command.
"""

import re
from typing import ClassVar, TypedDict


class ProblemDocument(TypedDict):
    """The members of an RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str


class Problem(Exception):  # noqa: N818 - the field's word (RFC 9457)
    """Something went wrong inside the server."""

    status = 500
    retry_after_s: int | None = None
    may_pass: ClassVar[bool] = False
    """Whether the same may well work a little later."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title())
        self.detail = detail or self.title()

    @classmethod
    def title(cls) -> str:
        """Return the first line of the class's docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def slug(cls) -> str:
        """Return the class's name as the last part of its `type` address."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def document(self) -> ProblemDocument:
        """Return the problem as RFC 9457 describes it."""
        return {
            "type": f"/docs#{self.slug()}",
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
        }


class StartProblem(Problem):
    """Lookalike cannot start."""


class WrongSetting(StartProblem):
    """A setting has a value that cannot be used."""


class UnusableDatabase(StartProblem):
    """The database cannot be used."""


class UnusableEncoder(StartProblem):
    """The encoder cannot be used."""


class InvalidRequest(Problem):
    """The request is not one that this address understands."""

    status = 422


class NoPicture(InvalidRequest):
    """The request has no picture: send one as the form field `file`."""

    status = 400


class NoTextTower(InvalidRequest):
    """This server's encoder reads pictures only; searching by text needs a CLIP encoder."""


class QueryCancels(InvalidRequest):
    """What is added and what is subtracted cancel each other: nothing is left to look for."""


class NotFound(InvalidRequest):
    """There is nothing at this address."""

    status = 404


class MethodNotAllowed(InvalidRequest):
    """This address does not answer that method."""

    status = 405


class BodyTooLarge(InvalidRequest):
    """The request is larger than this server accepts."""

    status = 413


class AccessProblem(Problem):
    """Access is refused."""

    status = 403


class KeyRequired(AccessProblem):
    """Changing the index needs an API key."""

    status = 401


class NotAllowed(AccessProblem):
    """Without API keys, only clients on the server's own machine may change the index."""


class PictureProblem(Problem):
    """The picture cannot be used."""

    status = 422


class EmptyPicture(PictureProblem):
    """The file is empty."""


class NotAPicture(PictureProblem):
    """The file is not a picture in a format that this server reads."""

    status = 415


class DamagedPicture(PictureProblem):
    """The picture is damaged or cut short."""


class TooManyPixels(PictureProblem):
    """The picture has more pixels than this server accepts."""

    status = 413


class PictureTooLarge(PictureProblem):
    """The file is larger than this server accepts."""

    status = 413

    @classmethod
    def over(cls, max_bytes: int) -> "PictureTooLarge":
        """Return the problem of a file of more than `max_bytes`."""
        return cls(f"The file is larger than {max_bytes / 1e6:g} MB.")


class FetchProblem(Problem):
    """The URL could not be fetched."""

    status = 422


class BadUrl(FetchProblem):
    """The URL is not a complete http or https address."""


class AddressRefused(FetchProblem):
    """The address may not be fetched."""


class CredentialsDropped(FetchProblem):
    """The URL was fetched with a user and password, which are not kept: send it again with them."""


class UrlNotFound(FetchProblem):
    """There is no picture at the URL."""


class UrlRefused(FetchProblem):
    """The URL's server does not give the picture out."""


class TooManyRedirects(FetchProblem):
    """The URL redirects too often."""


class FetchTimedOut(FetchProblem):
    """The URL took too long to answer."""

    may_pass = True


class FetchFailed(FetchProblem):
    """The URL's server could not be reached, or is in trouble."""

    may_pass = True


class CaptionProblem(Problem):
    """The caption model gave no title and description."""

    status = 502


class CaptionFailed(CaptionProblem):
    """The caption model failed."""

    may_pass = True


class CaptionRefused(CaptionProblem):
    """The caption model's server refuses the request."""


class CaptionBudgetSpent(CaptionProblem):
    """The job has used up CAPTION_TOKENS; to try again gives it as many once more."""


class Unavailable(Problem):
    """The server cannot answer now; try again soon."""

    status = 503
    retry_after_s = 5


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again soon."""


class TooBusy(Unavailable):
    """Too many searches are waiting; try again soon."""

    retry_after_s = 1
