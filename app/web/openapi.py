"""The OpenAPI document, made from a list of operations and the schemas."""

from collections import ChainMap
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.indexing.sources import LIST_MEDIA_TYPES
from app.search.compare_documents import VerdictDocument
from app.search.requests import FilterRequest, SearchRequest
from app.settings import VERSION
from app.store.index import StatsResponse
from app.web import schemas
from app.web.access import HEALTH
from app.web.duplicates_api import DUPLICATE_OPERATIONS
from app.web.operations import Operation
from app.web.parameters import (
    FILE,
    FILE_URL_OR_ID,
    PREFER,
    REFERENCES,
    form_fields,
    nested_schemas,
    path_parameters,
    query_parameters,
)
from app.web.schemas import FacetsResponse, SearchResponse
from app.web.trash_api import TRASH_OPERATIONS

EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "event": {"enum": ["progress", "end"]},
        "data": {"type": "string", "description": "The job as JSON; empty at the end."},
    },
}
QUERY_SCHEMA = {"type": "array", "items": {"type": "string", "format": "uri"}}


OPERATIONS = [
    Operation(
        "post",
        "/api/upsert",
        "Index images by URL. Idempotent; a URL that fails does not affect the others. With "
        "`Prefer: respond-async`, or with a list as the body, return a job instead.",
        answer=schemas.UpsertResponse,
        body=schemas.UpsertRequest,
        lists=tuple(LIST_MEDIA_TYPES),
        prefer=True,
        failures=(409, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/query",
        "Return the URLs of the images whose similarity to `file` is above 0.90 (strictly), best "
        "match first, 100 at most. With `verified`, those of the same files and of verified "
        "copies, whatever their similarity.",
        answer=QUERY_SCHEMA,
        form={"file": FILE, **form_fields(schemas.QueryRequest)},
        failures=(413, 415, 422, 503),
    ),
    Operation(
        "post",
        "/api/search",
        "Search by images (a file, a URL, indexed images), by text, or by any weighted sum of "
        "these, with filters.",
        answer=SearchResponse,
        body=SearchRequest,
        form={"file": FILE},
        failures=(404, 413, 415, 422, 503),
    ),
    Operation(
        "post",
        "/api/compare",
        "Compare two images: similarity, match, and how one lies on the other.",
        answer=VerdictDocument,
        body=schemas.CompareRequest,
        form={"a": FILE_URL_OR_ID, "b": FILE_URL_OR_ID},
        failures=(404, 413, 415, 422, 503),
    ),
    Operation(
        "get",
        "/api/facets",
        "Return the values to filter by, with counts, among the images that match the filters.",
        answer=FacetsResponse,
        query=FilterRequest,
        failures=(422, 503),
    ),
    Operation(
        "post",
        "/api/images",
        "Index uploaded images; the same bytes are the same image. With `Prefer: "
        "respond-async`, or with the id of a `job` to add them to, return a job instead; a "
        "cancelled one takes no more.",
        answer=schemas.UpsertResponse,
        form={"file": {"type": "array", "items": FILE}},
        query=schemas.UploadRequest,
        prefer=True,
        failures=(404, 409, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/images",
        "List indexed images, all or a selection, newest first.",
        answer=schemas.ListResponse,
        query=schemas.ListRequest,
        failures=(422, 503),
    ),
    Operation(
        "delete",
        "/api/images",
        "Delete a selection of images from the index, for good unless `trash` is true.",
        answer=schemas.DeleteResponse,
        query=schemas.DeleteRequest,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "patch",
        "/api/images/{id}",
        "Update the title, description, tags or metadata of an image.",
        answer=schemas.ImageDetails,
        body=schemas.DescribeRequest,
        failures=(404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/images/{id}",
        "Return all details of an image.",
        answer=schemas.ImageDetails,
        failures=(404, 503),
    ),
    Operation(
        "delete",
        "/api/images/{id}",
        "Delete an image from the index, for good unless `trash` is true.",
        query=schemas.DeleteOneRequest,
        status=204,
        failures=(404, 422, 503),
        writes=True,
    ),
    *TRASH_OPERATIONS,
    Operation(
        "get",
        "/images/{id}/thumbnail",
        "Return an image's thumbnail: a JPEG, 256 px on the short side.",
        answer=FILE,
        answer_type="image/jpeg",
        others={304: "The thumbnail with the ETag in `If-None-Match` is still the right one."},
        failures=(404, 503),
    ),
    Operation(
        "get",
        "/images/{id}/original",
        "Return the original of an uploaded image, or redirect to the URL of any other.",
        answer=FILE,
        answer_type="image/*",
        others={307: "The original is at `Location`."},
        failures=(404, 503),
    ),
    Operation(
        "post",
        "/api/refresh",
        "Create a job that checks which images of a selection have changed or are gone.",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/captions",
        "Create a job in which CAPTION_MODEL writes titles and descriptions for the images of a "
        "selection that have no description.",
        answer=schemas.JobDocument,
        query=schemas.SelectionRequest,
        status=202,
        failures=(422, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/duplicates",
        "List groups of duplicates: identical files and altered copies. A response with a "
        "`next` may hold fewer groups than `limit`.",
        answer=schemas.DuplicatesResponse,
        query=schemas.DuplicatesRequest,
        failures=(422, 503),
    ),
    *DUPLICATE_OPERATIONS,
    Operation(
        "get",
        "/api/jobs",
        "List jobs, newest first.",
        answer=schemas.JobsResponse,
        failures=(503,),
    ),
    Operation(
        "get",
        "/api/jobs/{id}",
        "Return job progress.",
        answer=schemas.JobDocument,
        failures=(404, 503),
    ),
    Operation(
        "delete",
        "/api/jobs/{id}",
        "Cancel and delete a job, with the uploads that only it kept; images that it indexed stay.",
        status=204,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/jobs/{id}/items",
        "List the items of a job, all or those in one state.",
        answer=schemas.JobItemsResponse,
        query=schemas.JobItemsRequest,
        failures=(404, 422, 503),
    ),
    Operation(
        "get",
        "/api/jobs/{id}/events",
        "Stream job progress as server-sent events: `progress` with the whole job at every change, "
        "then `end`.",
        answer=EVENT,
        answer_type="text/event-stream",
        failures=(404, 429, 503),
    ),
    Operation(
        "post",
        "/api/jobs/{id}/retry",
        "Retry failed and cancelled items.",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/jobs/{id}/cancel",
        "Cancel pending items.",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/stats",
        "Return the size of the index and the encoder in use.",
        answer=StatsResponse,
        failures=(503,),
    ),
    Operation(
        "get", "/healthz", "Check that the process is running.", answer=schemas.HealthResponse
    ),
    Operation(
        "get",
        "/metrics",
        "Return metrics in Prometheus' format, to clients on the server's own machine and to keys "
        "with the scope `admin`.",
        answer={"type": "string"},
        answer_type="text/plain",
        failures=(403,),
    ),
    Operation(
        "get",
        "/readyz",
        "Check that the database and the storage of uploads respond and can be written.",
        answer=schemas.ReadyResponse,
        failures=(503,),
    ),
]


@cache
def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the HTTP API, made when it is first needed."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lookalike",
            "version": VERSION,
            "description": "Reverse image search: find copies of an image and similar images.",
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
    # 400 is the answer to a request whose `Host` is none, 429 to one of too many (at once, or in a
    # time that RATE_LIMIT sets). 401 and 403 depend on the settings, too.
    access = () if operation.path in HEALTH else (401, 403)
    failures = {400, 429, *operation.failures, *access}
    if operation.body is not None or operation.form is not None:
        failures.add(408)
    for status, description in operation.others.items():
        document["responses"][str(status)] = {"description": description}
    for status in sorted(failures):
        document["responses"][str(status)] = {
            "description": "A problem document (RFC 9457).",
            "content": {
                "application/problem+json": {"schema": _reference(schemas.ProblemDocument)}
            },
        }
    if operation.prefer:
        document["responses"]["202"] = {
            "description": "The job, which is also at `Location`.",
            "content": {"application/json": {"schema": _reference(schemas.JobDocument)}},
        }
    parameters = path_parameters(operation.path)
    parameters += query_parameters(operation.query) + ([PREFER] if operation.prefer else [])
    if parameters:
        document["parameters"] = parameters
    content = _body(operation)
    if content:
        document["requestBody"] = {"required": True, "content": content}
    if operation.path not in HEALTH:
        # Who needs none depends on READ_ACCESS, and on whether there are keys.
        document["security"] = [{"key": ["write" if operation.writes else "read"]}, {}]
    return document


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": "Deleted."}
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
        fields = form_fields(operation.body) if operation.body else {}
        schema: dict[str, Any] = {"type": "object", "properties": {**fields, **operation.form}}
        if operation.body is None:
            schema["required"] = [n for n, f in operation.form.items() if "default" not in f]
        else:
            schema["required"] = operation.body.model_json_schema().get("required", [])
        content["multipart/form-data"] = {"schema": schema}
    return content


def _components() -> dict[str, Any]:
    models: set[type[BaseModel]] = {schemas.ProblemDocument}
    for operation in OPERATIONS:
        given = (operation.body, operation.answer)
        models.update(model for model in given if isinstance(model, type))
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=REFERENCES
    )
    nested = [nested_schemas(operation.query) for operation in OPERATIONS]
    return dict(sorted((definitions["$defs"] | dict(ChainMap(*nested))).items()))


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCES.format(model=model.__name__)}
