"""Every failure is a problem document, on every route, and every problem has a message."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from app.lookalike import Lookalike
from app.problems import Problem
from app.web.openapi import OPERATIONS
from app.web.server import create_app
from tests.conftest import Server, client_of, path_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import huge_header, png

ID = "00000000-0000-0000-0000-000000000000"
PAGES = ["/", "/index", "/docs", f"/images/{ID}"]


def every_problem(problem: type[Problem] = Problem) -> list[type[Problem]]:
    return [problem, *(leaf for child in problem.__subclasses__() for leaf in every_problem(child))]


def check(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Assert that a response is a problem document; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "request_id"}
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    assert "/app/" not in answer.text
    return document


@pytest.mark.parametrize("problem", every_problem(), ids=lambda problem: problem.__name__)
def test_every_problem_has_a_title_and_a_place_in_the_docs(problem: type[Problem]) -> None:
    assert problem.title().endswith(".")
    document = problem("the detail").document()
    assert document["detail"] == "the detail"
    assert problem().document()["detail"] == problem.title()
    assert document["type"] == f"/docs#{problem.slug()}"
    assert re.fullmatch(r"[a-z-]+", problem.slug())


def test_the_type_of_a_problem_links_to_its_description(shared_server: Server) -> None:
    document = check(shared_server.client.get("/api/nothing"), 404)
    page, _, anchor = document["type"].partition("#")
    assert f'id="{anchor}"' in shared_server.client.get(page).text


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing", "/images/1", "/api/images/x/y"])
def test_an_unknown_url_is_a_404(shared_server: Server, path: str) -> None:
    check(shared_server.client.get(path), 404)


@pytest.mark.parametrize("path", sorted({path_of(op) for op in OPERATIONS}))
def test_a_wrong_method_is_a_405(shared_server: Server, path: str) -> None:
    answer = shared_server.client.request("PUT", path)
    check(answer, 405)
    methods = {op.method.upper() for op in OPERATIONS if path_of(op) == path}
    methods |= {"HEAD"} if "GET" in methods else set()
    assert set(answer.headers["allow"].split(", ")) == methods


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/", "GET, HEAD, POST"), ("/static/style.css", "GET, HEAD"), ("/docs", "GET, HEAD")],
)
def test_a_wrong_method_of_a_page_is_a_405(shared_server: Server, path: str, methods: str) -> None:
    answer = shared_server.client.request("DELETE", path)
    check(answer, 405)
    assert answer.headers["allow"] == methods


@contextmanager
def away(lookalike: Lookalike) -> Generator[None]:
    """Make the database refuse connections, and end the existing ones."""
    url = lookalike.database.engine.url
    with psycopg.connect(
        url.set(drivername="postgresql", database="postgres").render_as_string(False),
        autocommit=True,
    ) as connection:
        connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')  # pyright: ignore[reportArgumentType]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [url.database],
        )
        yield
        connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')  # pyright: ignore[reportArgumentType]


def requests_that_need_the_database(url: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("POST", "/api/upsert", {"json": {"images": [url]}}),
        ("POST", "/api/query", {"files": {"file": png(1)}}),
        ("POST", "/api/search", {"files": {"file": png(1)}}),
        ("POST", "/api/images", {"files": {"file": ("a.png", png(1))}}),
        ("GET", "/api/images", {}),
        ("GET", f"/api/images/{ID}", {}),
        ("DELETE", f"/api/images/{ID}", {}),
        ("GET", f"/images/{ID}/thumbnail", {}),
        ("GET", f"/images/{ID}/original", {}),
        ("GET", f"/images/{ID}", {}),
        ("GET", "/api/stats", {}),
        ("GET", "/readyz", {}),
        ("GET", "/", {}),
        ("GET", "/index", {}),
    ]


def test_a_database_that_goes_away_is_a_503_until_it_comes_back(
    server: Server, host: ImageHost
) -> None:
    with away(server.lookalike):
        for method, path, body in requests_that_need_the_database(host.url("seed/1.png")):
            answer = server.client.request(method, path, **body)
            check(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert server.client.get("/healthz").status_code == 200
    assert server.client.get("/readyz").status_code == 200
    assert server.query(png(1)) == []


def test_a_browser_gets_a_problem_as_a_page(server: Server) -> None:
    html = {"accept": "text/html,application/xhtml+xml"}
    answer = server.client.get("/nothing", headers=html)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is nothing at this URL." in answer.text
    with away(server.lookalike):
        for page in PAGES:
            answer = server.client.get(page, headers=html)
            assert answer.status_code in (200, 503)
            assert "text/html" in answer.headers["content-type"]
    check(server.client.get("/api/nothing", headers=html), 404)


def test_an_unexpected_error_is_a_500_without_a_traceback(
    lookalike: Lookalike, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> int:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(lookalike.catalog, "count", fail)
    with loop.serving(create_app(lookalike)) as address, client_of(address) as client:
        answer = client.get("/api/stats")
    check(answer, 500)
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/api/query", "/api/search", "/"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    shared_server: Server, path: str
) -> None:
    answer = shared_server.client.post(path, files={"file": bytes(21_000_000)})
    if path == "/":
        assert answer.status_code == 413
    else:
        check(answer, 413)


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(shared_server: Server) -> None:
    def body() -> Generator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(25):
            yield bytes(1_000_000)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    check(shared_server.client.post("/api/query", content=body(), headers=kind), 413)
    check(shared_server.client.post("/api/upsert", content=body()), 413)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 422),
        (b"not an image", 415),
        (png(1)[:300], 422),
        (huge_header(50_000, 50_000), 413),
        (bytes(20_000_001), 413),
    ],
    ids=["empty", "not an image", "truncated", "pixels", "bytes"],
)
@pytest.mark.parametrize("path", ["/api/query", "/api/search"])
def test_an_unusable_query_image(
    shared_server: Server, path: str, data: bytes, status: int
) -> None:
    check(shared_server.client.post(path, files={"file": ("a.png", data)}), status)
    assert shared_server.client.get("/healthz").status_code == 200


def test_a_malformed_form_is_a_400(shared_server: Server) -> None:
    answer = shared_server.client.post(
        "/api/query",
        content=b"--x\r\nnonsense",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    check(answer, 400)
    answer = shared_server.client.post(
        "/api/query", content=b"x", headers={"content-type": "multipart/form-data"}
    )
    check(answer, 400)
