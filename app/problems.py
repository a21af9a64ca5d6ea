"""Everything that can go wrong, as one tree; each docstring is the sentence that users read.

    Problem
    ├── StartProblem            the server or command cannot start (exit code 1)
    │   ├── WrongSetting
    │   │   └── PortTaken
    │   ├── UnusableDatabase
    │   ├── UnusableEncoder
    │   └── MissingPackage
    ├── InvalidRequest
    │   ├── NoPicture
    │   ├── NoTextTower
    │   ├── QueryCancels
    │   ├── NotFound
    │   ├── MethodNotAllowed
    │   ├── BodyTooLarge
    │   ├── RequestTimedOut
    │   ├── JobCancelled
    │   └── Unstorable
    ├── AccessProblem
    │   ├── KeyRequired
    │   ├── ScopeMissing
    │   ├── NotAllowed
    │   ├── RateLimited
    │   └── TooManyStreams
    ├── PictureProblem          these bytes cannot be used as an image
    │   ├── EmptyPicture
    │   ├── NotAPicture
    │   ├── DamagedPicture
    │   ├── TooManyPixels
    │   ├── TooCostly
    │   └── PictureTooLarge
    ├── FetchProblem            the URL could not be downloaded
    │   ├── BadUrl
    │   ├── AddressRefused
    │   ├── CredentialsDropped
    │   ├── UrlNotFound
    │   ├── UrlRefused
    │   ├── TooManyRedirects
    │   ├── FetchTimedOut
    │   └── FetchFailed
    ├── CaptionProblem          no title and description for the image
    │   ├── CaptionFailed
    │   ├── CaptionRefused
    │   └── CaptionBudgetSpent
    └── Unavailable
        ├── DatabaseUnavailable
        │   └── SchemaChanged
        ├── DatabaseBusy
        ├── StorageUnavailable
        ├── MilvusUnavailable
        ├── WriteConflict
        ├── TooBusy
        └── TooManyOpen

A problem is shown in three ways: as an HTTP problem document (`document()`, RFC 9457), as the
reason why one image failed, and as the last line of a command.
"""

import re
from typing import ClassVar, TypedDict


class ProblemDocument(TypedDict):
    """The members of an RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Something went wrong on the server."""

    status = 500
    retry_after_s: int | None = None
    may_pass: ClassVar[bool] = False
    """Whether a retry may succeed."""

    def __init__(self, detail: str = "") -> None:
        # What it quotes may hold half of a character, which no answer can be written with.
        self.detail = (detail or self.title()).encode("utf-8", "replace").decode()
        super().__init__(self.detail)

    @classmethod
    def title(cls) -> str:
        """Return the first line of the class's docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def slug(cls) -> str:
        """Return the class name in kebab case, the fragment of `type`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def document(self) -> ProblemDocument:
        """Return the problem as an RFC 9457 document."""
        return {
            "type": f"/docs#{self.slug()}",
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
        }


class StartProblem(Problem):
    """Lookalike cannot start."""


class WrongSetting(StartProblem):
    """A setting has an invalid value."""


class PortTaken(WrongSetting):
    """The port is already in use."""


class UnusableDatabase(StartProblem):
    """The database cannot be used."""


class UnusableEncoder(StartProblem):
    """The encoder cannot be used."""


class MissingPackage(StartProblem):
    """A package that this needs is not installed."""


class InvalidRequest(Problem):
    """The request is invalid."""

    status = 422


class NoPicture(InvalidRequest):
    """The request has no image: send one as the form field `file`."""

    status = 400


class NoTextTower(InvalidRequest):
    """This server's encoder does not embed text; text search needs one with a text tower."""


class QueryCancels(InvalidRequest):
    """The terms of the query cancel each other out: nothing is left to search for."""


class NotFound(InvalidRequest):
    """There is nothing at this URL."""

    status = 404


class MethodNotAllowed(InvalidRequest):
    """This URL does not support that method."""

    status = 405


class BodyTooLarge(InvalidRequest):
    """The request is larger than this server accepts."""

    status = 413


class RequestTimedOut(InvalidRequest):
    """The request did not arrive in time."""

    status = 408


class JobCancelled(InvalidRequest):
    """The job was cancelled, and takes no more images: start another, or retry it first."""

    status = 409


class Unstorable(InvalidRequest):
    """The database cannot take these values: they are too long, too large or invalid."""


class AccessProblem(Problem):
    """Access denied."""

    status = 403


class KeyRequired(AccessProblem):
    """This requires an API key."""

    status = 401


class ScopeMissing(AccessProblem):
    """The API key does not permit this."""


class NotAllowed(AccessProblem):
    """Without API keys, only clients on the server's own machine are allowed to do this."""


class RateLimited(AccessProblem):
    """Too many requests: this client has used up its rate limit."""

    status = 429


class TooManyStreams(AccessProblem):
    """This client has too many event streams open: close some first."""

    status = 429
    retry_after_s = 10


class PictureProblem(Problem):
    """The image cannot be used."""

    status = 422


class EmptyPicture(PictureProblem):
    """The file is empty."""


class NotAPicture(PictureProblem):
    """The file is not an image in a supported format."""

    status = 415


class DamagedPicture(PictureProblem):
    """The image is damaged or truncated."""


class TooManyPixels(PictureProblem):
    """The image has more pixels than this server accepts."""

    status = 413


class TooCostly(PictureProblem):
    """Decoding the image would take more memory or time than this server allows."""

    status = 413


class PictureTooLarge(PictureProblem):
    """The file is larger than this server accepts."""

    status = 413

    @classmethod
    def over(cls, max_bytes: int) -> "PictureTooLarge":
        """Return the problem for a file larger than `max_bytes`."""
        return cls(f"The file is larger than {max_bytes / 1e6:g} MB.")


class FetchProblem(Problem):
    """The URL could not be fetched."""

    status = 422
    is_gone: bool = False
    """Whether an image that was there has to be taken for gone. Clients are not told why."""


class BadUrl(FetchProblem):
    """This is not a complete http or https URL."""


class AddressRefused(FetchProblem):
    """The URL's host does not exist, or is neither public nor in FETCH_ALLOW."""


class CredentialsDropped(FetchProblem):
    """The URL was fetched with a user and password, which are not kept: send it again with them."""


class UrlNotFound(FetchProblem):
    """There is no image at the URL."""

    is_gone = True


class UrlRefused(FetchProblem):
    """The URL's server refuses access to the image."""


class TooManyRedirects(FetchProblem):
    """The URL redirects too many times."""


class FetchTimedOut(FetchProblem):
    """The URL took too long to respond."""

    may_pass = True


class FetchFailed(FetchProblem):
    """The URL's server could not be reached or returned an error."""

    may_pass = True


class CaptionProblem(Problem):
    """The caption model returned no title and description."""

    status = 502


class CaptionFailed(CaptionProblem):
    """The caption model failed."""

    may_pass = True


class CaptionRefused(CaptionProblem):
    """The caption model's server rejected the request."""


class CaptionBudgetSpent(CaptionProblem):
    """The job has used up CAPTION_TOKENS; a retry grants it the same budget again."""


class Unavailable(Problem):
    """The server is temporarily unavailable; try again soon."""

    status = 503
    retry_after_s = 5


class DatabaseUnavailable(Unavailable):
    """The database is not responding; try again soon."""

    may_pass = True


class SchemaChanged(DatabaseUnavailable):
    """A newer version of Lookalike has upgraded the database: upgrade this server, too."""

    retry_after_s = 30


class StorageUnavailable(Unavailable):
    """Uploaded files cannot be stored or read at the moment; try again later."""

    retry_after_s = 30
    may_pass = True


class DatabaseBusy(Unavailable):
    """The database has reached a limit, such as its disk or its connections; try again later."""

    retry_after_s = 30
    may_pass = True


class MilvusUnavailable(Unavailable):
    """Milvus, which has the index of vectors, is not responding; try again soon."""

    may_pass = True


class WriteConflict(Unavailable):
    """Another change of the same rows came first; try again."""

    retry_after_s = 1
    may_pass = True


class TooBusy(Unavailable):
    """Too much is waiting already; try again soon."""

    retry_after_s = 1


class TooManyOpen(Unavailable):
    """This client has too many requests open at once; wait for some to end."""

    status = 429
    retry_after_s = 1
