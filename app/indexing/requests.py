"""Validation of what clients send, with the types that several requests share."""

import re
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.problems import InvalidRequest
from app.store.urls import LONGEST_URL

LONGEST_TITLE, LONGEST_DESCRIPTION = 1000, 10_000
LONGEST_TAG, MOST_TAGS = 200, 100
# Of the metadata: keys and values of the user's own.
LONGEST_KEY, LONGEST_VALUE, MOST_KEYS = 100, 200, 50

Tag = Annotated[str, Field(max_length=LONGEST_TAG)]
_MetadataValue = Annotated[str, Field(max_length=LONGEST_VALUE)] | int | float | bool
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)], _MetadataValue],
    Field(max_length=MOST_KEYS),
]
# A URL to fetch, on its own: one that is too long is the client's mistake.
Url = Annotated[str, Field(max_length=LONGEST_URL)]

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

MODEL = TypeVar("MODEL", bound=BaseModel)


class RequestModel(BaseModel):
    """The base of request models; unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


def parse(model: type[MODEL], values: Any) -> MODEL:
    """Validate a request; raises `InvalidRequest`, naming each invalid field."""
    for name, value in cast(dict[str, Any], values if isinstance(values, dict) else {}).items():
        if not _is_text(value):
            raise InvalidRequest(f"{name}: it contains characters that cannot be stored.")
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise InvalidRequest("; ".join(dict.fromkeys(_complaints(exc)))) from exc


def _is_text(value: object) -> bool:
    """Return whether Postgres can store every string in a JSON value (see `storable`)."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, dict):
        return all(
            _is_text(part) for pair in cast(dict[str, object], value).items() for part in pair
        )
    return not isinstance(value, list) or all(map(_is_text, cast(list[object], value)))


def _complaints(exc: ValidationError) -> list[str]:
    complaints: list[str] = []
    for error in exc.errors(include_url=False):
        # Without the names of union members, which pydantic adds: clients know only the fields.
        known = [str(part) for part in error["loc"] if part not in ("str", "ImageEntry")]
        message = "unknown field" if error["type"] == "extra_forbidden" else error["msg"]
        complaints.append(f"{'.'.join(known) or 'body'}: {message}")
    return complaints
