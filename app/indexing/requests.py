"""Validation of what clients send, with the types and limits that several requests share."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.problems import InvalidRequest
from app.store.database import storable
from app.store.urls import LONGEST_URL

MAX_TITLE = 1_000
MAX_DESCRIPTION = 10_000
MAX_TAG, MAX_TAGS = 200, 100
MAX_METADATA_KEY, MAX_METADATA_VALUE, MAX_METADATA_KEYS = 100, 200, 50
# Of one search, all its texts together: what Postgres and a text tower take with ease.
MAX_TEXT = 10_000
# Postgres' bigint.
MAX_INTEGER = 2**63 - 1
# No request of ours has more than four levels.
MAX_DEPTH = 20
MAX_COMPLAINTS, LONGEST_COMPLAINT = 10, 300


def _metadata_value(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise ValueError("must be a text, a number, true or false")  # noqa: TRY004 - pydantic's way
    return value


def _in_utc(time: datetime) -> datetime:
    """Return a time in UTC, which it is in anyway unless an offset is given."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("must be between the years 1 and 9999 in UTC") from exc


def split_at_commas(value: object) -> object:
    """Return a list with its texts split at commas; anything else as it is."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        return value
    members = cast(list[object], given)
    each = [member.split(",") if isinstance(member, str) else [member] for member in members]
    return [part for parts in each for part in parts]


Url = Annotated[str, Field(max_length=LONGEST_URL)]
Title = Annotated[str, Field(max_length=MAX_TITLE)]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION)]
Tag = Annotated[str, Field(max_length=MAX_TAG)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
Integer = Annotated[int, Field(ge=-MAX_INTEGER - 1, le=MAX_INTEGER)]
_MetadataValue = Annotated[
    Annotated[str, Field(max_length=MAX_METADATA_VALUE)]
    | Integer
    | Annotated[float, Field(allow_inf_nan=False)]
    | bool,
    BeforeValidator(_metadata_value),
]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=MAX_METADATA_KEY)], _MetadataValue],
    Field(max_length=MAX_METADATA_KEYS),
]

# What pydantic calls the members of unions, which clients do not know.
_MEMBERS = {"str", "constrained-str", "ImageEntry", "constrained-int", "int", "float", "bool"}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

MODEL = TypeVar("MODEL", bound=BaseModel)
T = TypeVar("T")

Commas = Annotated[T, BeforeValidator(split_at_commas)]
"""A list of ids, numbers or fixed words, of which several may be one text, with commas between.

So forms and query strings may either repeat a field or separate its values.
"""


class RequestModel(BaseModel):
    """The base of request models; unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


def read_json(body: bytes) -> Any:
    """Return the value of a JSON text; raises `InvalidRequest`.

    NaN and infinite numbers, which Python reads though they are no JSON, are left to `parse`.
    """
    try:
        return json.loads(body)
    except UnicodeDecodeError as exc:
        raise InvalidRequest("The body is not valid JSON: it is not in UTF-8.") from exc
    except ValueError as exc:
        raise InvalidRequest("The body is not valid JSON.") from exc
    except RecursionError as exc:
        raise InvalidRequest("The body is not valid JSON: it is nested too deeply.") from exc


def parse(model: type[MODEL], values: Any) -> MODEL:
    """Validate a request; raises `InvalidRequest`, naming each invalid field."""
    for path, value in _parts(values):
        complaint = _complaint_about(path, value)
        if complaint:
            raise InvalidRequest(f"{_named(path)}: {complaint}")
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise InvalidRequest("; ".join(_complaints(exc))) from exc


def is_storable(text: str) -> bool:
    """Return whether Postgres can store a text: it has no NULs and no lone surrogates."""
    return not _UNSTORABLE.search(text)


def _parts(values: object) -> Iterator[tuple[tuple[object, ...], object]]:
    """Yield a JSON value and everything in it, keys too, each with its path; never recurses."""
    waiting: list[tuple[tuple[object, ...], object]] = [((), values)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, dict):
            for key, member in reversed(cast(dict[object, object], value).items()):
                waiting += [((*path, key), member), ((*path, key), key)]
        elif isinstance(value, list):
            members = enumerate(cast(list[object], value))
            waiting += reversed([((*path, index), member) for index, member in members])


def _complaint_about(path: tuple[object, ...], value: object) -> str | None:
    if len(path) > MAX_DEPTH:
        return "it is nested too deeply."
    if isinstance(value, str) and not is_storable(value):
        return "it contains characters that cannot be stored."
    if isinstance(value, float) and not math.isfinite(value):
        return "it must be a finite number."
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return "the number is too large."
    return None


def _complaints(exc: ValidationError) -> list[str]:
    found: dict[str, tuple[object, ...]] = {}
    for error in exc.errors(include_url=False, include_input=False):
        path = tuple(part for part in error["loc"] if part not in _MEMBERS)
        message = "unknown field" if error["type"] == "extra_forbidden" else error["msg"]
        found[f"{_named(path)}: {message}"[:LONGEST_COMPLAINT]] = path
    # What is wrong inside a value says more than what else the value might have been.
    outer = {path[:length] for path in found.values() for length in range(len(path))}
    complaints = [complaint for complaint, path in found.items() if path not in outer]
    more = len(complaints) - MAX_COMPLAINTS
    return [*complaints[:MAX_COMPLAINTS], f"and {more} more"] if more > 0 else complaints


def _named(path: tuple[object, ...]) -> str:
    return storable(".".join(str(part)[:100] for part in path[:MAX_DEPTH])) or "body"
