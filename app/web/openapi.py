"""The OpenAPI document, made from the lists of operations and the schemas."""

from collections import ChainMap
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.problems import Problem, StartProblem
from app.settings import VERSION
from app.web import schemas
from app.web.access import HEALTH
from app.web.duplicates_api import DUPLICATE_OPERATIONS
from app.web.image_operations import IMAGE_OPERATIONS
from app.web.job_operations import JOB_OPERATIONS, SERVER_OPERATIONS
from app.web.operations import Operation, Tag
from app.web.parameters import (
    PREFER,
    REFERENCES,
    REQUEST_ID,
    form_fields,
    nested_schemas,
    path_parameters,
    query_parameters,
)
from app.web.people_api import PEOPLE_OPERATIONS
from app.web.search_operations import SEARCH_OPERATIONS
from app.web.trash_api import TRASH_OPERATIONS

OPERATIONS = [
    *SEARCH_OPERATIONS,
    *IMAGE_OPERATIONS,
    *DUPLICATE_OPERATIONS,
    *PEOPLE_OPERATIONS,
    *TRASH_OPERATIONS,
    *JOB_OPERATIONS,
    *SERVER_OPERATIONS,
]

# Where the examples of the document send their requests; the page has its own URL instead.
EXAMPLE_SERVER = "http://localhost:8000"

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which a retry makes sense, where that is known.",
        "schema": {"type": "string"},
    }
}
_LOCATION = {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}}


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
            "description": "Reverse image search: find copies of an image and similar images. "
            "Lists in query strings and forms are repeated (`tags=a&tags=b`); lists of ids, "
            "numbers and fixed words may also be one value, separated by commas.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name} for name in get_args(Tag)],
        "paths": paths,
        "components": {
            "schemas": _components(),
            "responses": {_problem_name(s): _problem_answer(s) for s in sorted(_all_failures())},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def problems_of(status: int | None = None) -> list[type[Problem]]:
    """Return the problems with which a request may end, or those with one status."""

    def below(problem: type[Problem]) -> list[type[Problem]]:
        return [problem, *(leaf for child in problem.__subclasses__() for leaf in below(child))]

    every = [problem for problem in below(Problem) if not issubclass(problem, StartProblem)]
    return [problem for problem in every if status in (None, problem.status)]


def _operation(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _answer(operation)}
    for status, description in operation.others.items():
        responses[str(status)] = {"description": description}
    for status in sorted(_failures(operation)):
        responses[str(status)] = {"$ref": f"#/components/responses/{_problem_name(status)}"}
    if operation.prefer:
        responses["202"] = _job_answer("The job, which is also at `Location`.")
    document: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": responses,
        "x-codeSamples": [
            {"lang": "Shell", "label": "curl", "source": operation.curl(EXAMPLE_SERVER)}
        ],
    }
    if operation.summary != operation.about.rstrip("."):
        document["description"] = operation.about
    parameters = path_parameters(operation.path)
    parameters += query_parameters(operation.query, examples=operation.asks)
    parameters += [PREFER] if operation.prefer else []
    content = _body(operation)
    if len(content) > 1:
        # openapi-python-client 0.29 makes code that cannot be imported of several kinds of bodies
        # without another parameter that may be left out.
        parameters.append(REQUEST_ID)
    if parameters:
        document["parameters"] = parameters
    if content:
        document["requestBody"] = {"required": True, "content": content}
    if operation.path not in HEALTH:
        # Who needs none depends on READ_ACCESS, and on whether there are keys.
        document["security"] = [{"key": ["write" if operation.writes else "read"]}, {}]
    return document


def _failures(operation: Operation) -> set[int]:
    # 400 is the answer to a request whose `Host` is none, 429 to one of too many (at once, or in a
    # time that RATE_LIMIT sets). 401 and 403 depend on the settings, too.
    access = () if operation.path in HEALTH else (401, 403)
    failures = {400, 429, *operation.failures, *access}
    if operation.body is not None or operation.form is not None:
        failures.add(408)
    return failures


def _all_failures() -> set[int]:
    return {status for operation in OPERATIONS for status in _failures(operation)}


def _problem_name(status: int) -> str:
    return f"Problem{status}"


def _problem_answer(status: int) -> dict[str, Any]:
    """Return a response with a problem document; its description names what it may be."""
    named = "; ".join(f"`{p.slug()}`: {p.title()}" for p in problems_of(status))
    answer: dict[str, Any] = {
        "description": f"A problem document (RFC 9457). {named}".rstrip(),
        "content": {"application/problem+json": {"schema": _reference(schemas.ProblemDocument)}},
    }
    if status in (429, 503):
        answer["headers"] = _RETRY_AFTER
    return answer


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": "Deleted."}
    if operation.answer is schemas.JobDocument and operation.status == 202:
        return _job_answer(operation.summary + ".")
    schema = (
        operation.answer if isinstance(operation.answer, dict) else _reference(operation.answer)
    )
    content: dict[str, Any] = {"schema": schema}
    if operation.answers is not None:
        content["example"] = operation.answers
    return {
        "description": operation.summary + ".",
        "content": {operation.answer_type: content},
    }


def _job_answer(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _LOCATION,
        "content": {"application/json": {"schema": _reference(schemas.JobDocument)}},
    }


def _body(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body is not None:
        content["application/json"] = {"schema": _reference(operation.body)}
        if operation.example is not None:
            content["application/json"]["example"] = operation.example
    for media_type in operation.lists:
        content[media_type] = {"schema": {"type": "string"}}
    if operation.form is not None:
        content["multipart/form-data"] = {
            "schema": {"$ref": REFERENCES.format(model=operation.form.name)}
        }
    return content


def _forms() -> Iterator[tuple[str, dict[str, Any]]]:
    for operation in OPERATIONS:
        body, form = operation.body, operation.form
        if form is None:
            continue
        fields = form_fields(body) if body else {}
        schema: dict[str, Any] = {"type": "object", "properties": {**fields, **form.fields}}
        if body is None:
            required = [name for name, field in form.fields.items() if "default" not in field]
        else:
            required = body.model_json_schema().get("required", [])
        yield form.name, schema | ({"required": required} if required else {})


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
    every = definitions["$defs"] | dict(ChainMap(*nested)) | dict(_forms())
    return dict(sorted(every.items()))


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCES.format(model=model.__name__)}
