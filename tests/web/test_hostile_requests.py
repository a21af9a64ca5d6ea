"""Whatever a client sends, the answer is the client's mistake and says what it is."""

import base64
import json
import socket
import zlib
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png
from tests.web.test_problems import check
from tests.web.test_security import with_keys

__all__ = ["with_keys"]

DEEP = "[" * 50_000 + "]" * 50_000
DIGITS = "9" * 5_000
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server


def raw(server: Server, head: str, body: bytes = b"") -> httpx.Response:
    """Send bytes that no HTTP client sends; return the answer."""
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname or "", address.port or 0), 30) as connection:
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    first, _, content = answer.partition(b"\r\n\r\n")
    status, *fields = first.decode("latin-1").split("\r\n")
    headers = [tuple(field.split(": ", 1)) for field in fields]
    return httpx.Response(int(status.split()[1]), headers=headers, content=content)  # pyright: ignore[reportArgumentType]


def post(path: str, *headers: str, length: int | str = 0, host: str = "127.0.0.1") -> str:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "Connection: close"])


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ('{"a": 1e999}', "metadata.a: it must be a finite number"),
        ('{"a": -1e999}', "metadata.a"),
        ('{"a": NaN}', "metadata.a"),
        ('{"a": Infinity}', "metadata.a"),
        ('{"a": -Infinity}', "metadata.a"),
        ('{"a": 9223372036854775808}', "metadata.a: the number is too large"),
        (f'{{"a": {DIGITS}}}', "not valid JSON"),
        ('{"a": null}', "metadata.a: Value error, must be a text, a number, true or false"),
        ('{"a": {}}', "metadata.a"),
        ('{"\\ud800": 1}', "cannot be stored"),
        ('{"a\\u0000": 1}', "cannot be stored"),
        (DEEP, "nested too deeply"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        (json.dumps({"a": "x" * 201}), "metadata.a"),
        (json.dumps({"x" * 101: 1}), "at most 100 characters"),
        (json.dumps(dict.fromkeys(map(str, range(51)), 1)), "at most 50"),
    ],
    ids=lambda value: value[:24],
)
def test_metadata_that_is_none(server: Server, metadata: str, words: str) -> None:
    body = f'{{"images": [{{"url": "http://127.0.0.1/", "metadata": {metadata}}}]}}'
    document = check(server.client.post("/api/upsert", content=body, headers=JSON), 422)
    assert words in document["detail"]
    assert len(document["detail"]) < 500
    body = f'{{"text": "cat", "metadata": {metadata}}}'
    check(server.client.post("/api/search", content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "body",
    [
        DEEP.encode(),
        b'{"a":' * 50_000,
        DIGITS.encode(),
        b'{"text": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"text": "\xff"}',
        b'["\\ud800"]',
        b'"\\u0000"',
        b"null",
        b"1e999",
        b"NaN",
        b"",
        b"\xff\xfe{\x00",
        b"\x00",
        b'{"limit": 1e999}',
        b'{"limit": 1e400, "text": "a"}',
        b'{"text": "a", "min_width": 99999999999999999999}',
        b'{"text": "a", "min_similarity": NaN}',
        b'{"text": "a", "box": [NaN, 0, 1, 1]}',
        b'{"text": "a", "crop": {"x": Infinity}}',
        b'{"text": "a", "like": ["\\u0000"]}',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", ["/api/search", "/api/upsert"])
def test_json_that_is_none(server: Server, path: str, body: bytes) -> None:
    check(server.client.post(path, content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "path",
    [
        f"/api/jobs/{DIGITS}",
        f"/api/jobs/{DIGITS}/items",
        f"/api/jobs/{DIGITS}/events",
        "/api/jobs/9223372036854775808",
        "/api/jobs/999999999999999999",
        f"/index/jobs/{DIGITS}/events",
        "/index/jobs/9223372036854775808/events",
        "/api/jobs/-1",
        "/api/jobs/%00",
        "/api/jobs/%D9%A3",
        "/api/images/%00",
        "/images/%ff",
        "/images/%zz/thumbnail",
        "/static/%00",
        "/static/..%2f..%2fpyproject.toml",
        "/static/" + "x" * 5_000,
        "/%ed%a0%80",
        "//[",
        "/api/stats/%00/",
    ],
    ids=lambda path: path[:32],
)
def test_a_path_to_nothing(server: Server, path: str) -> None:
    check(server.client.get(server.address + path), 404)
    answer = server.client.post(server.address + path)
    check(answer, answer.status_code)
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "query",
    [
        f"jobs/1/items?after={DIGITS}",
        "images?cursor=%00",
        "images?cursor=%ff",
        "images?q=%00",
        "images?q=%ed%a0%80",
        "images?q=%ff",
        "images?%ff=1",
        "images?%00=1",
        "images?" + "&".join("q" * 1001),
        f"images?limit={DIGITS}",
        "images?checked_before=0000-01-01",
        "images?checked_before=10000-01-01T00:00:00Z",
        "images?checked_before=0001-01-01T00:00:00%2B23:59",
        "images?checked_before=9999-12-31T23:59:59-23:59",
        "images?checked_before=2020-01-01T00:00:00%2B99:99",
        "images?checked_before=NaN",
        "images?checked_before=1e999",
        "images?gone=%00",
        "images?q=" + "x" * 1001,
        "facets?metadata=a%00=1",
        "facets?metadata=a",
        "facets?box=nan,0,1,1",
        "facets?box=1e999,0,1,1",
        "facets?min_width=1e999",
        f"facets?min_height={DIGITS}",
        "facets?taken_after=0001-01-01T00:00:00%2B23:59",
        "facets?tags=%ff",
        "duplicates?cursor=%00",
        "duplicates?min_similarity=nan",
        "duplicates?min_similarity=1e999",
        f"duplicates?max_bits={DIGITS}",
        "images?cursor=" + base64.urlsafe_b64encode(b"2020-01-01\0 0").decode(),
        "images?cursor="
        + base64.urlsafe_b64encode(b"0001-01-01T00:00:00+23:59 " + b"0" * 32).decode(),
        "images?cursor=" + base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        "images?cursor=" + "A" * 50_000,
    ],
    ids=lambda query: query[:40],
)
def test_a_query_string_that_cannot_be_meant(server: Server, host: ImageHost, query: str) -> None:
    server.start([])
    answer = server.client.get(f"/api/{query}")
    assert answer.status_code in (400, 422), answer.text
    check(answer, answer.status_code)
    assert len(answer.text) < 1000


@pytest.mark.parametrize("query", ["job=99999999999999999999", f"job={DIGITS}", "job=%00"])
def test_an_upload_to_a_job_that_cannot_be(server: Server, query: str) -> None:
    files = {"file": ("a.png", png(1))}
    check(server.client.post(f"/api/images?{query}", files=files), 422)


def test_times_count_with_their_offset(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png")])
    for time, number in (
        ("9999-12-31T23:59:59%2B23:59", 1),
        ("0001-01-01T00:00:00-23:59", 0),
        ("2001-02-03", 0),
    ):
        listed = server.client.get(f"/api/images?checked_before={time}").json()
        assert listed["total"] == number


HOSTS = ["[", "[::1", "a b", "a/b", "a@b", "a:99999", "a:x", "\xff", "http://a", "[x]"]


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("path", ["/api/stats", "/api/upsert", "/healthz", "/", "/api/stats/"])
def test_a_host_header_that_names_no_host(server: Server, path: str, name: str) -> None:
    verb = "POST" if path == "/api/upsert" else "GET"
    answer = raw(server, f"{verb} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close")
    check(answer, 400)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a:x", "\xff", "x", ""])
def test_an_origin_that_is_none_is_foreign(server: Server, origin: str) -> None:
    check(raw(server, post("/api/upsert", f"Origin: {origin}")), 403)


CREDENTIALS = ["Basic é", "Basic \xff\xff", "Basic ====", "Basic", "Bearer é", "Bearer \x7f", "é"]


def test_credentials_that_are_none(with_keys: httpx.Client) -> None:
    for given in CREDENTIALS:
        headers = {"authorization": given.encode("latin-1")}
        answer = with_keys.post("/api/upsert", json={"images": []}, headers=headers)
        check(answer, 401)


@pytest.mark.parametrize(
    "head",
    [
        post("/api/query", length="9" * 5000),
        post("/api/query", length="-1"),
        post("/api/query", length="x"),
        post("/api/query", "Content-Length: 7"),
        post("/api/query", "Transfer-Encoding: nonsense"),
        post("/api/query\x00"),
        post("/api/query", "Host: other"),
        post("/api/query", "X: " + "x" * 100_000),
        post("/" + "x" * 100_000),
        "nonsense",
        "GET /",
    ],
    ids=lambda head: head.replace("x" * 99, "")[:60],
)
def test_a_request_that_is_no_http(server: Server, head: str) -> None:
    answer = raw(server, head)
    check(answer, answer.status_code)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="',
        "multipart/form-data; boundary=" + "x" * 5_000,
        "multipart/form-data; boundary=b; charset=idna",
        "multipart/form-data; boundary=b; charset=unicode_escape",
        "multipart/form-data; boundary=\xff",
        "multipart/form-data; boundary=other",
        "application/x-www-form-urlencoded; charset=utf-7",
        "image/png",
        "; ;",
        "\xff/\xff",
        "",
    ],
)
def test_a_content_type_that_does_not_fit(server: Server, kind: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n+AGE\xff\r\n--b--\r\n'
    for path in ("/api/query", "/api/images"):
        answer = raw(server, post(path, f"Content-Type: {kind}", length=len(body)), body)
        check(answer, answer.status_code)
        assert answer.status_code in (400, 422)
    answer = raw(server, post("/api/search", f"Content-Type: {kind}", length=len(body)), body)
    assert 400 <= answer.status_code < 500
    twice = post("/api/query", f"Content-Type: {kind}", "Content-Type: text/plain", length=0)
    check(raw(server, twice), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b--",
        b"--b\r\n\r\n\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Disposition\r\n\r\nx\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
        b"--b\r\nX: " + b"x" * 100_000 + b"\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"X: x\r\n" * 1000 + b"\r\nx\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--b--',
        b'--b\r\nContent-Disposition: form-data; name="a\xff"\r\n\r\nx\r\n--b--',
        b'--b\r\nContent-Disposition: form-data; name="a\0"\r\n\r\nx\r\n--b--',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        + b"x" * 2_000_000
        + b"\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 1001 + b"--b--",
    ],
    ids=lambda body: repr(body[:70]),
)
@pytest.mark.parametrize("path", ["/api/query", "/api/search", "/api/images"])
def test_a_form_that_is_none(server: Server, path: str, body: bytes) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = server.client.post(path, content=body, headers=kind)
    assert answer.status_code in (400, 422), answer.text
    check(answer, answer.status_code)


@pytest.mark.parametrize("value", ["a\0b", "%00", "%ff", "%ed%a0%80"])
@pytest.mark.parametrize("path", ["/index", "/"])
def test_urls_in_the_forms_of_pages(server: Server, path: str, value: str) -> None:
    jobs = server.client.get("/api/jobs").json()
    name = {"/index": "urls", "/": "url"}[path]
    body = f"{name}={value}".replace("\0", "%00")
    answer = server.client.post(
        path,
        content=body,
        headers={"content-type": "application/x-www-form-urlencoded"},
        follow_redirects=True,
    )
    assert answer.status_code == 422
    assert server.client.get("/api/jobs").json() == jobs


def cursor_of(server: Server, **changed: Any) -> str:
    """A cursor of ours with some of its fields changed."""
    vector = np.full(server.lookalike.encoder.dimensions, 0.04, np.float16).tobytes()
    asked: dict[str, Any] = {
        "vector": base64.urlsafe_b64encode(vector).decode(),
        "words": "cat",
        **changed,
    }
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(asked).encode())).decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"words": "a\0"},
        {"words": "a " * 50_000},
        {"words": "", "vector": None},
        {"vector": base64.urlsafe_b64encode(b"\0\x7e" * 512).decode()},
        {"vector": "A"},
        # What cursors of older versions have.
        {"before": "2030-01-01T00:00:00Z"},
        {"offset": 20},
        {"shown": ["0" * 32]},
        {"shown": "AAAA", "distance": 0.5},
        {"left": "AAAA"},
        {"left": "AAAAAAAAAA==", "found": "x"},
        {"left": "AAAAAAAAAA==", "found": "pp"},
        {"distance": 1e999},
        {"distance": float("nan"), "words": ""},
        {"diversity": 9},
        {"dhash": 10**30},
        {"min_similarity": -9},
        {"left_out": ["0" * 32] * 1000},
        {"filters": {"formats": ["a\0"]}},
        {"filters": {"min_width": 10**15}},
        {"filters": {"metadata": {"a": 10**30}}},
        {"filters": {"box": {"west": 999, "south": 0, "east": 0, "north": 0}}},
        {"filters": {"tags": ["x"] * 10_000}},
        {"filters": {"taken_after": "0001-01-01T00:00:00+23:59"}},
        {"notes": 1},
    ],
    ids=lambda changed: repr(changed)[:40],
)
def test_a_cursor_that_was_changed(server: Server, changed: dict[str, Any]) -> None:
    good = {"cursor": cursor_of(server)}
    assert server.client.post("/api/search", json=good).status_code == 200
    check(server.client.post("/api/search", json={"cursor": cursor_of(server, **changed)}), 422)


@pytest.mark.parametrize("cursor", ["\0", "é", "A", "AAAA", "=" * 10, "x" * 60_001, " "])
def test_a_cursor_that_is_none(server: Server, cursor: str) -> None:
    answer = server.client.post("/api/search", json={"cursor": cursor})
    check(answer, 422)


def test_the_cursor_of_a_long_text_is_accepted(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    random = np.random.default_rng(1)
    text = "".join(map(chr, random.integers(0x4E00, 0x9FFF, 9_990))) + " discs"
    image = {"url": host.url("seed/1.png")}
    first = server.client.post("/api/search", json={"query": [image, {"text": text}], "limit": 1})
    assert first.status_code == 200, first.text
    assert first.json()["next"]
    following = server.client.post("/api/search", json={"cursor": first.json()["next"]})
    assert following.status_code == 200


def test_the_texts_of_a_search_have_a_limit_together(server: Server) -> None:
    terms = [{"text": "long words " * 900} for _ in range(16)]
    document = check(server.client.post("/api/search", json={"query": terms}), 422)
    assert "10,000 characters together" in document["detail"]
    terms = [{"text": f"word {n}"} for n in range(17)]
    document = check(server.client.post("/api/search", json={"query": terms}), 422)
    assert document["detail"] == "text: a search may have 16 texts, and this has 17."
    assert server.client.post("/api/search", json={"query": terms[1:]}).status_code == 200
    page = server.client.get("/", params={"text": " + ".join(f"word {n}" for n in range(17))})
    assert (page.status_code, "may have 16 texts" in page.text) == (422, True)
    deep = {"text": "a b c " * 1_666}
    assert server.client.post("/api/search", json=deep).status_code == 200
    excluded = {"text": "cat", "query": [{"text": "a b " * 2_400, "weight": -1}]}
    assert server.client.post("/api/search", json=excluded).status_code in (200, 422)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://127.0.0.1/" + "x" * 9_000, "8,000"),
    ],
)
def test_an_expression_has_limits(server: Server, text: str, words: str) -> None:
    document = check(server.client.post("/api/search", json={"text": text}), 422)
    assert words in document["detail"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("title", "x" * 1_001, "1000"),
        ("description", "x" * 10_001, "10000"),
        ("tags", ["x" * 201], "200"),
        ("tags", ["x"] * 101, "100"),
    ],
)
def test_every_text_of_an_image_has_a_limit(
    server: Server, field: str, value: object, words: str
) -> None:
    image = {"url": "http://127.0.0.1/", field: value}
    document = check(server.client.post("/api/upsert", json={"images": [image]}), 422)
    assert words in document["detail"]
    assert f"images.0.{field}" in document["detail"]


def test_many_mistakes_are_not_listed_all(server: Server) -> None:
    document = check(server.client.post("/api/upsert", json={"images": [{}] * 1000}), 422)
    assert document["detail"].endswith("and 990 more")
