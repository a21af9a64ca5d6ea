"""The pages and their forms survive whatever is in their URLs and fields."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_from_bytes
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png
from tests.web.test_openapi import FOREIGN, bounded, fill

NASTY = [
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "\udcff",
        "\ufffe",
        "é",
        "日本語",
        "[",
        "//[",
        "..",
        "%",
        "%zz",
    ),
    *("0", "-1", "1e999", "nan", "inf", "-inf", "9" * 5000, "1.5", "true", "null", "1,2,3,4"),
    *("nan,0,1,1", "9" * 400 + ":cat", "- cat", "+ +", '"', "a=b", "=", "a=\0", "x" * 20_000),
    *("0001-01-01T00:00:00+23:59", "10000-01-01", "2020-01-01", str(UUID(int=0)), "eJwDAAAAAAE"),
    *("\n\0\n", "<script>", "{{ 7 * 7 }}", "javascript:alert(1)", "file:///etc/passwd"),
]
VALUES = st.sampled_from(NASTY) | st.text(max_size=30) | st.characters(categories=["Cs"])
FIELDS = {
    "/": "url text parts weight upload like unlike crop cursor panel density show "
    "min_similarity diversity limit formats orientations colours hosts cameras tags metadata "
    "located box taken_after taken_before min_width min_height query file",
    "/index": "q gone cursor sort moved job show urls file",
    "/add": "x",
    "/compare": "a b view",
    "/duplicates": "min_similarity max_bits limit cursor",
    "/docs": "x",
    "/index/images": "ids matching action tag q gone",
    "/images/{id}": "title description tags metadata delete",
    "/images/{id}/thumbnail": "x",
    "/images/{id}/original": "x",
    "/uploads/{id}": "x",
    "/index/jobs/{job}/retry": "x",
    "/index/jobs/{job}/nothing": "x",
    "/index/jobs/{job}/events": "x",
}
WRITTEN_ONLY = ("/index/images", "/index/jobs/{job}/retry")
READ = [path for path in FIELDS if path not in WRITTEN_ONLY]
WRITTEN = [
    "/",
    "/index",
    "/index/images",
    "/images/{id}",
    "/index/jobs/{job}/retry",
]

Fields = list[tuple[str, str]]


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server


def fields_of(path: str) -> st.SearchStrategy[Fields]:
    names = st.sampled_from(FIELDS[path].split()) | VALUES
    pairs = st.lists(st.tuples(names, VALUES), max_size=4)
    return pairs.filter(lambda given: not any(FOREIGN.search(a + b) for a, b in given))


def encoded(fields: Fields) -> str:
    """Fields as a query string, with lone surrogates as the bytes they would be."""
    quoted = [
        tuple(quote_from_bytes(text.encode("utf-8", "surrogatepass")) for text in pair)
        for pair in fields
    ]
    return "&".join(f"{name}={value}" for name, value in quoted)


def multipart(fields: Fields) -> bytes:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass"))
        for name, value in fields
    ]
    return b"".join(parts) + b"--b--\r\n"


def check(answer: httpx.Response, accept: str) -> None:
    assert answer.status_code < 500 or "retry-after" in answer.headers, answer.text
    if answer.status_code >= 400:
        html = accept == "text/html" or answer.headers["content-type"].startswith("text/html")
        expected = "text/html; charset=utf-8" if html else "application/problem+json"
        assert answer.headers["content-type"] == expected
    assert "Traceback" not in answer.text


def run(server: Server, host: ImageHost, path: str, send: Callable[..., Any], n: int) -> None:
    fill(server, host)
    [image, *_] = server.client.get("/api/images").json()["images"]
    [job, *_] = server.client.get("/api/jobs").json()["jobs"]
    target = path.format(id=image["id"], job=job["id"])

    @bounded(n)
    @given(fields_of(path), st.sampled_from(["text/html", "*/*"]), st.booleans())
    def request(fields: Fields, accept: str, flag: bool) -> None:
        check(send(target, fields, accept, flag), accept)

    request()


def get(server: Server) -> Callable[..., httpx.Response]:
    def send(target: str, fields: Fields, accept: str, _: bool) -> httpx.Response:
        url = f"{server.address}{target}?{encoded(fields)}"
        return server.client.get(url[:60_000], headers={"accept": accept})

    return send


def post(server: Server) -> Callable[..., httpx.Response]:
    def send(target: str, fields: Fields, accept: str, in_parts: bool) -> httpx.Response:
        body: bytes | str = multipart(fields) if in_parts else encoded(fields)
        kind = (
            "multipart/form-data; boundary=b" if in_parts else "application/x-www-form-urlencoded"
        )
        headers = {"accept": accept, "content-type": kind}
        answer = server.client.post(server.address + target, content=body, headers=headers)
        if answer.is_redirect:
            location = answer.headers["location"]
            assert re.match("/(?!/)", location), location
            return server.client.get(location[:60_000], headers={"accept": accept})
        return answer

    return send


@pytest.mark.parametrize("path", READ)
def test_any_field_in_the_url_of_a_page(server: Server, host: ImageHost, path: str) -> None:
    run(server, host, path, get(server), 8)


@pytest.mark.parametrize("path", WRITTEN)
def test_any_field_in_a_form(server: Server, host: ImageHost, path: str) -> None:
    run(server, host, path, post(server), 8)


@pytest.mark.slow
@pytest.mark.parametrize("path", READ)
def test_many_fields_in_the_url_of_a_page(server: Server, host: ImageHost, path: str) -> None:
    run(server, host, path, get(server), 400)


@pytest.mark.slow
@pytest.mark.parametrize("path", WRITTEN)
def test_many_fields_in_a_form(server: Server, host: ImageHost, path: str) -> None:
    run(server, host, path, post(server), 400)


@pytest.mark.slow
@pytest.mark.parametrize("value", NASTY, ids=lambda value: repr(value[:20]))
def test_each_field_with_each_nasty_value(server: Server, host: ImageHost, value: str) -> None:
    server.client.post("/", files={"file": ("a.png", png(1))})
    for path in ("/", "/index", "/duplicates"):
        for name in FIELDS[path].split():
            fields = [("text", "cat"), (name, value)] if path == "/" else [(name, value)]
            for send in (get(server), post(server)):
                if path == "/duplicates" and send.__qualname__.startswith("post"):
                    continue
                check(send(path, fields, "text/html", True), "text/html")
