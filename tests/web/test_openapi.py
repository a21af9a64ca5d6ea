"""Requests made from the OpenAPI document are all answered as it says, and never with a 500."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.web.openapi import OPERATIONS, openapi_document
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png
from tests.web.test_problems import check

SCHEMA = schemathesis.openapi.from_dict(openapi_document())
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
NAMES = [f"{operation.method.upper()} {operation.path}" for operation in OPERATIONS]
# What a URL may name: the image host, an address that is refused, or nothing. Whatever is generated
# otherwise might be looked up.
FOREIGN = re.compile(r"https?:", re.IGNORECASE)


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server


def fill(server: Server, host: ImageHost) -> None:
    """Index images, one of them uploaded, and make a job, unless they are there."""
    urls = [host.url(f"seed/{seed}.png") for seed in range(4)]
    if server.client.get("/api/images").json()["total"] <= len(urls):
        server.upsert([{"url": url, "title": "cat", "tags": ["a"]} for url in urls])
        server.client.post("/api/images", files={"file": ("a.png", png(9))})
    if not server.client.get("/api/jobs").json()["jobs"]:
        server.done(server.start(urls)["id"])


def bounded(examples: int) -> Any:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from texts(key)
            yield from texts(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from texts(member)


def test_every_reference_leads_somewhere() -> None:
    document = openapi_document()
    references = re.findall(r'"\$ref": "(.*?)"', json.dumps(document))
    assert references
    for reference in set(references):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def with_known(case: Any, server: Server, known: str, url: str) -> None:
    """Put the id of something that exists, and URLs that may be named, into a generated request."""
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = known
    if isinstance(case.body, dict) and isinstance(case.body.get("images"), list):
        entries = case.body["images"]
        case.body["images"] = [{**e, "url": url} if isinstance(e, dict) else url for e in entries]
    elif isinstance(case.body, dict) and "url" in case.body:
        case.body["url"] = url
    elif isinstance(case.body, dict) and {"a", "b"} & set(case.body):
        for side, term in case.body.items():
            if isinstance(term, dict):
                case.body[side] = {"id": known} if side == "a" else {"url": url}


def check_operation(
    server: Server, host: ImageHost, name: str, mode: GenerationMode, *, examples: int
) -> None:
    method, path = name.split()
    fill(server, host)
    images = [image["id"] for image in server.client.get("/api/images").json()["images"]]
    jobs = [str(job["id"]) for job in server.client.get("/api/jobs").json()["jobs"]]
    known = st.sampled_from((jobs if path.startswith("/api/jobs") else images) or ["1"])
    urls = [host.url("seed/1.png"), host.url("status/404"), "http://10.0.0.1/", "nonsense", ""]
    operation = SCHEMA[path][method].as_strategy(generation_mode=mode)

    @bounded(examples)
    @given(case=operation, uses_known=st.booleans(), known=known, url=st.sampled_from(urls))
    def run(case: Any, uses_known: bool, known: str, url: str) -> None:
        parts = (case.path_parameters, case.query, case.body, case.headers)
        if any(FOREIGN.search(text) for part in parts for text in texts(part)):
            return
        if uses_known:
            with_known(case, server, known, url)
        with requests.Session() as session:
            session.trust_env = False
            answer = case.call(
                base_url=server.address, session=session, allow_redirects=False, timeout=60
            )
        headers = [(name, value) for name, values in answer.headers.items() for value in values]
        problem = httpx.Response(answer.status_code, headers=headers, content=answer.content)
        assert problem.status_code < 500 or "retry-after" in problem.headers, problem.text
        if problem.status_code >= 400:
            check(problem, problem.status_code)
        # What is generated for a path may be the path of nothing.
        if problem.status_code not in (404, 405):
            case.validate_response(answer, checks=CHECKS)

    run()


def modes(name: str) -> list[GenerationMode]:
    """Requests as the document has them and, if they can be wrong, requests that are."""
    method, path = name.split()
    given = openapi_document()["paths"][path][method.lower()]
    can_be_wrong = "parameters" in given or "requestBody" in given
    return list(GenerationMode) if can_be_wrong else [GenerationMode.POSITIVE]


CASES = [(name, mode) for name in NAMES for mode in modes(name)]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_generated_requests(
    server: Server, host: ImageHost, name: str, mode: GenerationMode
) -> None:
    check_operation(server, host, name, mode, examples=8)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_many_generated_requests(
    server: Server, host: ImageHost, name: str, mode: GenerationMode
) -> None:
    check_operation(server, host, name, mode, examples=100)
