"""The OpenAPI document, made from the routes' endpoints and the schemas."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.indexing.sources import LIST_MEDIA_TYPES
from app.search.requests import FilterRequest, SearchRequest
from app.settings import VERSION
from app.store.index import StatsResponse
from app.web import schemas
from app.web.schemas import FacetsResponse, SearchResponse

FILE = {"type": "string", "format": "binary"}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
JOB_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` (RFC 7240): answer at once, and index as a job.",
    "schema": {"type": "string"},
}
QUERY_SCHEMA = {"type": "array", "items": {"type": "string", "format": "uri"}}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: what goes in, what comes out, and how it may fail."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | dict[str, Any] | None = None
    answer_type: str = "application/json"
    body: type[BaseModel] | None = None
    form: dict[str, Any] | None = None
    query: type[BaseModel] | None = None
    lists: Sequence[str] = ()
    prefer: bool = False
    status: int = 200
    failures: Sequence[int] = ()
    writes: bool = False


OPERATIONS = [
    Operation(
        "post",
        "/api/upsert",
        "Index pictures by URL. Idempotent; one bad URL does not fail the others. With `Prefer: "
        "respond-async`, or a list as the body, the answer is a job.",
        answer=schemas.UpsertResponse,
        body=schemas.UpsertRequest,
        lists=tuple(LIST_MEDIA_TYPES),
        prefer=True,
        failures=(413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/query",
        "Find the URLs of the pictures whose similarity to `file` is above 0.90, best first, "
        "at most 100.",
        answer=QUERY_SCHEMA,
        form={"file": FILE},
        failures=(400, 413, 415, 422, 503),
    ),
    Operation(
        "post",
        "/api/search",
        "Find the pictures that look like a file, a URL or pictures of the index, that a text "
        "describes, or any sum of these, within filters.",
        answer=SearchResponse,
        body=SearchRequest,
        form={"file": FILE},
        failures=(400, 413, 415, 422, 503),
    ),
    Operation(
        "get",
        "/api/facets",
        "Tell what there is to filter by, with counts, among the pictures that pass the filters.",
        answer=FacetsResponse,
        query=FilterRequest,
        failures=(422, 503),
    ),
    Operation(
        "post",
        "/api/images",
        "Index uploaded pictures; the same bytes are the same picture. With `Prefer: "
        "respond-async`, or the number of a `job` to add them to, the answer is a job.",
        answer=schemas.UpsertResponse,
        form={"file": {"type": "array", "items": FILE}},
        query=schemas.UploadRequest,
        prefer=True,
        failures=(400, 404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/images",
        "List what is indexed, or a selection of it, the newest first.",
        answer=schemas.ListResponse,
        query=schemas.ListRequest,
        failures=(422, 503),
    ),
    Operation(
        "delete",
        "/api/images",
        "Take every picture of a selection out of the index.",
        answer=schemas.DeleteResponse,
        query=schemas.DeleteRequest,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "patch",
        "/api/images/{id}",
        "Change the title, the description, the tags or the metadata of a picture.",
        answer=schemas.ImageDetails,
        body=schemas.DescribeRequest,
        failures=(404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/images/{id}",
        "Tell all that is known of one picture.",
        answer=schemas.ImageDetails,
        failures=(404, 503),
    ),
    Operation(
        "delete",
        "/api/images/{id}",
        "Take a picture out of the index.",
        status=204,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/images/{id}/thumbnail",
        "Show a picture's thumbnail: a JPEG, 256 px on the short side.",
        answer=FILE,
        answer_type="image/jpeg",
        failures=(404, 503),
    ),
    Operation(
        "get",
        "/images/{id}/original",
        "Show an uploaded picture, or redirect to where the original is.",
        answer=FILE,
        answer_type="image/*",
        failures=(404, 503),
    ),
    Operation(
        "post",
        "/api/refresh",
        "Make a job that asks the web which pictures of a selection have changed or gone.",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/captions",
        "Make a job in which CAPTION_MODEL describes the pictures of a selection that no one has "
        "described.",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/duplicates",
        "List groups of images that show the same picture: the same bytes, or altered copies. An "
        "answer with a `next` may hold fewer groups than asked for.",
        answer=schemas.DuplicatesResponse,
        query=schemas.DuplicatesRequest,
        failures=(422, 503),
    ),
    Operation(
        "get",
        "/api/jobs",
        "List the jobs, the last made first.",
        answer=schemas.JobsResponse,
        failures=(503,),
    ),
    Operation(
        "get",
        "/api/jobs/{id}",
        "Tell how far a job is.",
        answer=schemas.JobDocument,
        failures=(404, 503),
    ),
    Operation(
        "delete",
        "/api/jobs/{id}",
        "Cancel and forget a job; what it indexed stays.",
        status=204,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/jobs/{id}/items",
        "List the pictures of a job, or those in one state.",
        answer=schemas.JobItemsResponse,
        query=schemas.JobItemsRequest,
        failures=(404, 422, 503),
    ),
    Operation(
        "get",
        "/api/jobs/{id}/events",
        "Follow a job: a server-sent event `progress` with the whole job whenever it moves on, and "
        "`end`.",
        answer={"type": "string"},
        answer_type="text/event-stream",
        failures=(404, 503),
    ),
    Operation(
        "post",
        "/api/jobs/{id}/retry",
        "Try again what failed or was cancelled.",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/jobs/{id}/cancel",
        "Leave out what has not ended yet.",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/stats",
        "Tell how much is indexed, and with what.",
        answer=StatsResponse,
        failures=(503,),
    ),
    Operation("get", "/healthz", "Say that the process runs.", answer=schemas.HealthResponse),
    Operation(
        "get",
        "/readyz",
        "Say that the database answers.",
        answer=schemas.HealthResponse,
        failures=(503,),
    ),
]


@cache
def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the HTTP interface, made when it is first asked for."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lookalike",
            "version": VERSION,
            "description": "Reverse image search: show a picture, get those that look alike.",
        },
        "paths": paths,
        "components": {
            "schemas": _components(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {str(operation.status): _answer(operation)},
    }
    failures = [*operation.failures, *((401, 403) if operation.writes else ())]
    for status in sorted(failures):
        document["responses"][str(status)] = {
            "description": "A problem document (RFC 9457).",
            "content": {
                "application/problem+json": {"schema": _reference(schemas.ProblemDocument)}
            },
        }
    if operation.prefer:
        document["responses"]["202"] = {
            "description": "The job that does it, also at `Location`.",
            "content": {"application/json": {"schema": _reference(schemas.JobDocument)}},
        }
    place = JOB_ID if operation.path.startswith("/api/jobs") else ID
    parameters = [place] if "{id}" in operation.path else []
    parameters += _parameters(operation.query) + ([PREFER] if operation.prefer else [])
    if parameters:
        document["parameters"] = parameters
    content = _body(operation)
    if content:
        document["requestBody"] = {"required": True, "content": content}
    if operation.writes:
        # Without API_KEYS, a client on the server's own machine needs no key.
        document["security"] = [{"key": []}, {}]
    return document


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": "Done."}
    schema = (
        operation.answer if isinstance(operation.answer, dict) else _reference(operation.answer)
    )
    return {
        "description": operation.summary,
        "content": {operation.answer_type: {"schema": schema}},
    }


def _body(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body is not None:
        content["application/json"] = {"schema": _reference(operation.body)}
    for media_type in operation.lists:
        content[media_type] = {"schema": {"type": "string"}}
    if operation.form is not None:
        body = operation.body
        fields: dict[str, Any] = body.model_json_schema()["properties"] if body else {}
        schema: dict[str, Any] = {"type": "object", "properties": {**operation.form, **fields}}
        if operation.body is None:
            schema["required"] = list(operation.form)
        content["multipart/form-data"] = {"schema": schema}
    return content


def _parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _components() -> dict[str, Any]:
    models: set[type[BaseModel]] = {schemas.ProblemDocument}
    for operation in OPERATIONS:
        given = (operation.body, operation.answer)
        models.update(model for model in given if isinstance(model, type))
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    return definitions["$defs"]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
