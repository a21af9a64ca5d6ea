"""The fields of forms and query strings for the OpenAPI document, from the models of requests.

Every value in them is a text or a list of texts, so a few fields are written in another way than in
JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

FILE = {"type": "string", "format": "binary", "description": "An image file."}
FILE_URL_OR_ID = FILE | {"description": "A file, or a URL or an image's id as a text."}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` (RFC 7240): return at once and index as a job.",
    "schema": {"type": "string"},
}
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "An id of your own for the request, which the answer and the server's log have "
    "instead of a new one. Any request may have it.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~+/=:-]{1,128}$"},
}
REFERENCES = "#/components/schemas/{model}"
_ID = {"type": "string", "format": "uuid"}
_JOB_ID = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 10**18 - 1}
_NUMBER = r"\s*-?\d+(\.\d+)?\s*"
_PAIR = {"type": "string", "pattern": "^[^=]*[^=\\s][^=]*=", "maxLength": 301}

# As texts; None for what only JSON can say.
_WRITTEN: dict[str, dict[str, Any] | None] = {
    "metadata": {
        "type": "array",
        "items": _PAIR,
        "maxItems": 50,
        "description": "Your own keys and values, as `key=value`.",
    },
    "weights": {
        "type": "array",
        "items": {"type": "string", "pattern": "^.*[^=\\s].*=\\s*-?[0-9.]+\\s*$"},
        "maxItems": 50,
        "description": "How much images count that are not in `text`: the `upload`, the `url`, and "
        "ids in `like` and `unlike`, as `ID=2` or `https://…=2`.",
    },
    "box": {
        "type": "array",
        "items": {"type": "number", "minimum": -180, "maximum": 180},
        "minItems": 4,
        "maxItems": 4,
        "description": "West, south, east, north in degrees: four values, or one with commas.",
    },
    "crop": {
        "type": "string",
        "pattern": f"^{_NUMBER}(,{_NUMBER}){{3}}$",
        "description": "The region to search by, as `x,y,width,height` in fractions.",
    },
    "face": {
        "type": "string",
        "maxLength": 200,
        "description": "A face to search by, on its own: `ID:ORDER` of an indexed image, or "
        "`ORDER` or `x,y,width,height` of one in the file or `upload`.",
    },
    "query": None,
}


def form_fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the properties of a form with a model's fields, each a text or a list of texts."""
    properties: dict[str, Any] = model.model_json_schema(ref_template=REFERENCES)["properties"]
    fields = {name: _WRITTEN.get(name, _given(schema)) for name, schema in properties.items()}
    return {name: schema for name, schema in fields.items() if schema is not None}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """Return the parameters of a path."""
    if "{id}" not in path:
        return []
    schema = _JOB_ID if path.startswith("/api/jobs") else _ID
    return [{"name": "id", "in": "path", "required": True, "schema": schema}]


def query_parameters(
    model: type[BaseModel] | None, *, examples: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the parameters of a query string with a model's fields; none without a model."""
    fields = form_fields(model) if model is not None else {}
    return [_parameter(name, schema, examples.get(name)) for name, schema in fields.items()]


def nested_schemas(model: type[BaseModel] | None) -> dict[str, Any]:
    """Return the schemas, by name, that a model's fields refer to."""
    if model is None:
        return {}
    return model.model_json_schema(ref_template=REFERENCES).get("$defs", {})


def _parameter(name: str, schema: dict[str, Any], example: str | None) -> dict[str, Any]:
    described = {key: value for key, value in schema.items() if key != "description"}
    parameter: dict[str, Any] = {"name": name, "in": "query", "schema": described}
    if "description" in schema:
        parameter["description"] = schema["description"]
    if example is not None:
        parameter["example"] = _read(example, schema)
    return parameter


def _read(text: str, schema: dict[str, Any]) -> object:
    """Return the value that a text of a query string stands for."""
    match schema.get("type"):
        case "array":
            return [text]
        case "integer" | "number" | "boolean":
            return json.loads(text)
        case _:
            return text


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema without null, which is a field that is left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    if len(kinds) != 1:
        return schema
    outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return kinds[0] | outer
