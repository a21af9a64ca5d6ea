import asyncio
import gzip
import re
import socket
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import pytest

from app.indexing.answers import retry_after_s
from app.indexing.fetcher import MOST_FETCHES, MOST_FETCHES_PER_HOST, REFUSAL_S, Fetcher
from app.problems import (
    AddressRefused,
    BadUrl,
    FetchFailed,
    FetchProblem,
    FetchTimedOut,
    PictureTooLarge,
    Problem,
    TooManyRedirects,
    UrlNotFound,
    UrlRefused,
)
from tests.conftest import Server
from tests.image_host import ImageHost, RawHost, raw_host
from tests.live import Loop
from tests.samples import png


def fetch(
    *urls: str, allow: Sequence[str] = (), timeout_s: float = 10, max_bytes: int = 1_000_000
) -> list[Any]:
    async def run() -> list[Any]:
        fetcher = Fetcher(allow=allow, timeout_s=timeout_s, max_bytes=max_bytes)
        try:
            return await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
        finally:
            await fetcher.close()

    return asyncio.run(run())


def problem_of(url: str, **options: Any) -> Problem:
    [outcome] = fetch(url, **{"allow": ["127.0.0.1"], **options})
    assert isinstance(outcome, Problem), outcome
    return outcome


def name_service(monkeypatch: pytest.MonkeyPatch, address_of: Callable[[str], str]) -> None:
    """Stand in for the world's DNS: `address_of` answers for names under .example."""
    resolve = socket.getaddrinfo

    def getaddrinfo(name: str | bytes, *args: Any, **kwargs: Any) -> Any:
        name = name.decode() if isinstance(name, bytes) else name
        known = name.endswith(".example")
        return resolve(address_of(name) if known else name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_picture_is_fetched(host: ImageHost) -> None:
    assert fetch(host.url("seed/1.png"), allow=["127.0.0.1"]) == [png(1)]
    assert fetch(host.url("seed/1.png"), allow=["127.0.0.0/8"]) == [png(1)]
    by_name = host.url("seed/1.png").replace("127.0.0.1", "localhost")
    assert fetch(by_name, allow=["LocalHost"]) == [png(1)]


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://example.com/x", "file:///etc/passwd", "http://", "http:///x", "//host/x",
     "http://[::1", "http://host:99999/", "http://example.com/" + "x" * 9000, "data:image/png,x",
     "gopher://127.0.0.1/", "http://example.com:0/"],
)  # fmt: skip
def test_what_is_not_a_web_address_is_refused_as_such(url: str) -> None:
    assert isinstance(problem_of(url), BadUrl)


REFUSED = [
    "http://127.0.0.1/x",
    "http://127.0.0.1:1/x",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://user:password@127.0.0.1/",
    "http://example.com@127.0.0.1/",
]


def test_private_addresses_in_every_form_are_refused_with_one_message() -> None:
    outcomes = fetch(*REFUSED)
    assert {url: type(o) for url, o in zip(REFUSED, outcomes, strict=True)} == dict.fromkeys(
        REFUSED, AddressRefused
    )
    assert {outcome.detail for outcome in outcomes} == {AddressRefused.title()}


def test_nothing_tells_whether_a_refused_address_answers(host: ImageHost) -> None:
    [answering] = fetch(host.url("seed/1.png"))
    [silent] = fetch("http://127.0.0.1:1/x")
    assert answering.document() == silent.document()


def test_a_redirect_to_a_private_address_is_refused(host: ImageHost) -> None:
    for target in ("http://127.0.0.2/x", "http://169.254.169.254/", "http://[::1]/"):
        assert isinstance(problem_of(host.url(f"to?url={target}")), AddressRefused)
    assert isinstance(problem_of(host.url("to?url=file:///etc/passwd")), BadUrl)


def test_a_name_that_resolves_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_service(monkeypatch, lambda _: "10.1.2.3")
    assert isinstance(problem_of("http://inside.example/x"), AddressRefused)


def test_a_name_that_changes_its_address_after_the_check_is_refused(
    monkeypatch: pytest.MonkeyPatch, host: ImageHost
) -> None:
    port = int(host.address.rsplit(":", 1)[1])
    answers = iter(["93.184.216.34"])
    name_service(monkeypatch, lambda _: next(answers, "127.0.0.1"))
    problem = problem_of(f"http://rebinding.example:{port}/seed/1.png", allow=[])
    assert isinstance(problem, AddressRefused)


def test_refusals_and_unknown_names_cannot_be_told_apart(
    monkeypatch: pytest.MonkeyPatch, host: ImageHost
) -> None:
    def address_of(name: str) -> str:
        if name == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return "10.1.2.3"

    name_service(monkeypatch, address_of)
    urls = [
        "http://inside.example/x",
        "http://nowhere.example/x",
        "https://inside.example:8443/x",
        "https://nowhere.example:8443/x",
        "http://10.1.2.3/x",
        "http://0x0a010203/x",
        host.url("to?url=http://inside.example/x"),
        host.url("to?url=http://nowhere.example/x"),
        host.url("to?url=http://0x0a010203/x"),
    ]
    told = [timed(url) for url in urls]
    assert {str(problem.document()) for problem, _ in told} == {str(AddressRefused().document())}
    assert {problem.may_pass for problem, _ in told} == {False}
    assert all(seconds >= REFUSAL_S for _, seconds in told), told


def timed(url: str) -> tuple[Problem, float]:
    start = monotonic()
    return problem_of(url), monotonic() - start


def test_a_refused_url_keeps_no_slot_while_it_waits() -> None:
    start = monotonic()
    outcomes = fetch(*[f"http://10.{i // 256}.{i % 256}.1/x" for i in range(MOST_FETCHES * 20)])
    assert {type(outcome) for outcome in outcomes} == {AddressRefused}
    # One after the other, by the slots, they would take 20 times as long.
    assert monotonic() - start < REFUSAL_S * 20


def test_a_name_server_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def address_of(_: str) -> str:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    name_service(monkeypatch, address_of)
    problem = problem_of("http://somewhere.example/x")
    assert isinstance(problem, FetchFailed)
    assert problem.may_pass


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("status/404", UrlNotFound),
        ("status/410", UrlNotFound),
        ("status/403", UrlRefused),
        ("status/500", FetchFailed),
        ("status/204", UrlRefused),
        ("status/429", FetchFailed),
        ("hops/5", TooManyRedirects),
        ("declared/1000001", PictureTooLarge),
        ("large", PictureTooLarge),
        ("to?url=http://%5Bx", Problem),
    ],
)
def test_each_failure_has_its_reason(host: ImageHost, path: str, kind: type[Problem]) -> None:
    assert isinstance(problem_of(host.url(path)), kind)


def test_five_redirects_are_followed(host: ImageHost) -> None:
    assert fetch(host.url("hops/4"), allow=["127.0.0.1"]) == [png(1)]


@pytest.mark.parametrize("path", ["never", "drip"])
def test_the_time_limit_covers_the_whole_answer(host: ImageHost, path: str) -> None:
    assert isinstance(problem_of(host.url(path), timeout_s=0.2), FetchTimedOut)


def test_an_answer_shorter_than_declared_fails(host: ImageHost) -> None:
    assert isinstance(problem_of(host.url("declared/500")), FetchFailed)


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert isinstance(problem_of(f"http://127.0.0.1:{port}/x"), FetchFailed)


def test_fetches_of_one_host_at_once_are_few(host: ImageHost) -> None:
    urls = [host.url(f"together/{MOST_FETCHES_PER_HOST}/{i}") for i in range(10)]
    assert fetch(*urls, allow=["127.0.0.1"]) == [png(1)] * 10
    assert host.most_at_once == MOST_FETCHES_PER_HOST


def test_fetches_at_once_are_bounded(host: ImageHost, monkeypatch: pytest.MonkeyPatch) -> None:
    name_service(monkeypatch, lambda _: "127.0.0.1")
    port = host.address.rsplit(":", 1)[1]
    urls = [f"http://{i % 6}.example:{port}/together/{MOST_FETCHES}/{i}" for i in range(40)]
    assert fetch(*urls, allow=["127.0.0.1"]) == [png(1)] * 40
    assert host.most_at_once == MOST_FETCHES


def answers(
    prepare: Callable[[RawHost], Sequence[str]], **options: Any
) -> tuple[list[Any], list[bytes]]:
    """Fetch what `prepare` returns, one after the other; return outcomes and heads of requests."""

    async def run() -> tuple[list[Any], list[bytes]]:
        limits = {"timeout_s": 60, "max_bytes": 1_000_000, **options}
        fetcher = Fetcher(allow=["127.0.0.1", "localhost"], **limits)
        outcomes: list[Any] = []
        async with raw_host() as host:
            for url in prepare(host):
                try:
                    outcomes.append(await fetcher.fetch(url))
                except Problem as problem:
                    outcomes.append(problem)
        await fetcher.close()
        return outcomes, host.heads

    return asyncio.run(run())


def answer(*headers: str | bytes, body: bytes = b"", status: str = "200") -> Any:
    [outcome], _ = answers(lambda host: [host.add("x", *headers, body=body, status=status)])
    return outcome


NO_WEB_URLS = [
    "data:image/png;base64,AAAA",
    "mailto:someone@example.com",
    "javascript:alert(1)",
    "http:",
    "https:",
    "http:path",
    "http://",
    "http:///path",
    "http://[",
    "http://[::1",
    "http://host:99999/",
    "http://host:port/",
    "http://host:-1/",
    "http://a..b/",
    "http://" + "a" * 70 + ".example/",
    "http://xn--a\xff.example/",
    "http://\u2603\ufe0f.example/",
    "//",
    "//[/",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "x" * 9000,
    "http://127.0.0.1/" + "x" * 9000,
    "::::",
    "%",
    "\\\\host\\share",
]


def test_a_redirect_to_what_is_no_web_url_fails_that_url() -> None:
    def redirects(host: RawHost) -> list[str]:
        pairs = enumerate(NO_WEB_URLS)
        return [host.add(f"{i}", f"Location: {to}".encode(), status="302") for i, to in pairs] + [
            host.add("good", body=b"image")
        ]

    outcomes, _ = answers(redirects)
    assert outcomes[-1] == b"image"
    for target, outcome in zip(NO_WEB_URLS, outcomes[:-1], strict=True):
        assert isinstance(outcome, FetchProblem), (target[:80], outcome)
        assert len(outcome.detail) < 200
    assert isinstance(answer("Location: ", status="302"), TooManyRedirects)
    assert isinstance(answer(status="302"), UrlRefused)


def test_one_such_redirect_fails_alone_in_a_batch_and_is_said_to_a_search(
    server: Server, host: ImageHost
) -> None:
    bad = host.url("to?url=mailto:someone@example.com")
    failed, good = server.upsert([bad, host.url("seed/1.png")])
    assert (failed["status"], good["status"]) == ("failed", "indexed")
    assert "redirects to something that is not an http or https URL" in failed["reason"]
    found = server.client.post("/api/search", json={"url": bad})
    assert (found.status_code, found.json()["type"]) == (422, "/docs#bad-url")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("9" * 5000, 86_400),
        ("-5", None),
        ("5.5", None),
        ("\u0665", None),
        ("soon", None),
        ("", None),
        ("Fri, 99 Foo 2026 00:00:00 GMT", None),
        ("Fri, 31 Feb 2026 00:00:00 GMT", None),
        ("Fri, 01 Jan 0000 00:00:00 GMT", 0),
        ("Fri, 01 Jan 0001 00:00:00 -2359", 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 01 Jan 2016 00:00:00 +9999999999", None),
        ("Fri, 01 Jan 2016 00:00:00", 0),
    ],
)
def test_a_retry_after_is_a_number_of_seconds_or_nothing(said: str, seconds: int | None) -> None:
    assert retry_after_s(said) == seconds
    problem = answer(f"Retry-After: {said}".encode(), status="503")
    assert isinstance(problem, FetchFailed)
    assert problem.retry_after_s == (None if said == "\u0665" else seconds)


@pytest.mark.parametrize("value", [b'"caf\xc3\xa9"', b'"caf\xe9"', b'"a\tb"', b'"' + b"x" * 2000])
def test_validators_that_cannot_be_sent_back_are_dropped(value: bytes) -> None:
    async def run() -> tuple[Any, list[bytes]]:
        fetcher = Fetcher(allow=["127.0.0.1"], timeout_s=60, max_bytes=1000)
        async with raw_host() as host:
            url = host.add("x", b"ETag: " + value, b"Last-Modified: " + value, body=b"image")
            async with fetcher.fetched(url) as first:
                pass
            # As an older version stored them.
            stored = value.decode("latin-1")
            async with fetcher.fetched(url, etag=stored, last_modified="\r\n\0") as second:
                pass
        await fetcher.close()
        return (first, second), host.heads

    outcomes, heads = asyncio.run(run())
    for outcome in outcomes:
        assert (outcome.data, outcome.etag, outcome.last_modified) == (b"image", None, None)
    assert b"if-none-match" not in heads[1].lower()


def test_a_refresh_goes_on_where_a_server_has_odd_validators(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    [outcome] = server.upsert([host.url("seed/1.png")])

    async def spoil() -> None:
        async with server.lookalike.database.begin() as connection:
            await connection.exec_driver_sql("UPDATE images SET etag = 'é', last_modified = '☃'")

    loop.run(spoil())
    job = server.client.post("/api/refresh").json()
    assert server.done(job["id"])["unchanged"] == 1
    assert server.client.get(f"/api/images/{outcome['id']}").json()["gone_at"] is None


def test_no_cookie_is_kept() -> None:
    def twice(host: RawHost) -> list[str]:
        url = host.add("x", *(f"Set-Cookie: c{i}=v; Path=/" for i in range(300)), body=b"image")
        return [url, url]

    outcomes, heads = answers(twice)
    assert outcomes == [b"image", b"image"]
    assert b"cookie" not in heads[1].lower()


def test_images_are_asked_for_as_they_are() -> None:
    _, [head] = answers(lambda host: [host.add("x", body=b"image")])
    assert re.findall(rb"accept-encoding: (.*)\r\n", head.lower()) == [b"identity"]


@pytest.mark.parametrize("status", ["200", "201", "203", "226", "299"])
def test_every_success_with_a_body_is_one(status: str) -> None:
    assert answer(body=b"image", status=status) == b"image"


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        ("204", [], "answers 204, without an image"),
        ("205", [], "answers 205, without an image"),
        ("206", ["Content-Range: bytes 0-4/9"], "only part of the file"),
        ("206", [], "only part of the file"),
        ("304", ['ETag: "x"'], "answers 304"),
        ("300", ["Location: /y"], "answers 300"),
        ("600", [], "answers 600"),
    ],
)
def test_what_is_no_image_is_refused(status: str, headers: list[str], said: str) -> None:
    problem = answer(*headers, status=status)
    assert isinstance(problem, (UrlRefused, FetchFailed))
    assert said in problem.detail


def test_a_part_that_is_the_whole_is_taken() -> None:
    assert answer("Content-Range: bytes 0-4/5", body=b"image", status="206") == b"image"


def packed(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"image")),
        ("X-GZIP", gzip.compress(b"image")),
        ("deflate", packed(b"image", zlib.MAX_WBITS)),
        ("deflate", packed(b"image", -zlib.MAX_WBITS)),
        ("identity", b"image"),
        ("", b"image"),
    ],
)
def test_packed_bodies_are_unpacked(encoding: str, body: bytes) -> None:
    assert answer(f"Content-Encoding: {encoding}", body=body) == b"image"


BOMB = gzip.compress(bytes(100_000_000))
# Blocks that hold nothing, without an end.
NOTHING = b"\0\0\0\xff\xff" * 300_000


@pytest.mark.parametrize(
    ("encoding", "body", "kind"),
    [
        ("gzip", BOMB, PictureTooLarge),
        ("gzip, gzip", gzip.compress(BOMB), UrlRefused),
        ("br", b"\x0b\x02\x80image\x03", UrlRefused),
        ("deflate", NOTHING, PictureTooLarge),
        ("gzip", b"image", FetchFailed),
        ("deflate", b"\x78image", FetchFailed),
        ("gzip", gzip.compress(b"image")[:-4], FetchFailed),
        ("\xff", b"image", UrlRefused),
    ],
    ids=["bomb", "bomb in a bomb", "not asked for", "nothing", "not packed", "x", "cut", "garbage"],
)
def test_what_is_packed_wrongly_or_too_well_fails_within_its_bounds(
    encoding: str, body: bytes, kind: type[Problem]
) -> None:
    tracemalloc.start()
    outcome = answer(f"Content-Encoding: {encoding}".encode("latin-1"), body=body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, kind)
    # The body itself, the most that may come of it, and what stands around.
    assert peak < 30_000_000


def test_bombs_are_counted_as_they_come() -> None:
    """Many at once take little more than what they may unpack to."""
    bombs, most = 12, 2_000_000

    async def run() -> list[Any]:
        fetcher = Fetcher(allow=["127.0.0.1"], timeout_s=60, max_bytes=most)
        async with raw_host() as host:
            url = host.add("x", "Content-Encoding: gzip", body=BOMB)
            given = [fetcher.fetch(url) for _ in range(bombs)]
            tracemalloc.start()
            try:
                outcomes = await asyncio.gather(*given, return_exceptions=True)
                return [*outcomes, tracemalloc.get_traced_memory()[1]]
            finally:
                tracemalloc.stop()
                await fetcher.close()

    *outcomes, peak = asyncio.run(run())
    assert {type(outcome) for outcome in outcomes} == {PictureTooLarge}
    assert peak < bombs * (most * 1.5 + 500_000)


def test_a_packed_body_of_many_pieces_is_whole() -> None:
    data = bytes(range(256)) * 10_000
    for encoding, wbits in (("gzip", zlib.MAX_WBITS | 16), ("deflate", -zlib.MAX_WBITS)):
        body = packed(data, wbits)
        [outcome], _ = answers(
            lambda host, e=encoding, b=body: [host.add("x", f"Content-Encoding: {e}", body=b)],
            max_bytes=len(data),
        )
        assert outcome == data


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\0Y: \xff\r\n\r\n",
        b"image",
        b"",
        b"HTTP/1.1 103 Hints\r\n\r\n" * 1000,
    ],
    ids=lambda raw: raw[:40].decode("latin-1"),
)
def test_what_is_no_http_fails_that_url(raw: bytes) -> None:
    def garbage(host: RawHost) -> list[str]:
        host.answers["x"] = raw
        return [host.url("x")]

    [outcome], _ = answers(garbage)
    assert isinstance(outcome, (FetchProblem, PictureTooLarge)), outcome


def test_a_user_and_password_go_to_their_own_host_only() -> None:
    def locked(host: RawHost) -> list[str]:
        elsewhere = host.url("b").replace("127.0.0.1", "localhost")
        host.add("a", f"Location: {elsewhere}", status="302")
        host.add("b", f"Location: {host.url('c')}", status="302")
        host.add("c", body=b"c")
        host.add("d", "Location: /c", status="302")
        named = host.address.replace("//", "//m%C3%A9:a%3Ab%40@")
        return [f"{named}/a", f"{named}/d", f"{host.address.replace('//', '//me@')}/c"]

    outcomes, heads = answers(locked)
    assert outcomes == [b"c", b"c", b"c"]
    known = f"Authorization: Basic {b64encode('mé:a:b@'.encode()).decode()}"
    sent = [(re.search(rb"Authorization: .*", head) or [b""])[0].decode() for head in heads]
    alone = f"Authorization: Basic {b64encode(b'me:').decode()}"
    assert [said.strip() for said in sent] == [known, "", "", known, known, alone]
    assert not any(b"%C3" in head or b"@" in head for head in heads)


def test_a_url_has_a_longest_length_on_every_way_in(server: Server, host: ImageHost) -> None:
    longest = host.url("padded/")
    longest += "x" * (8000 - len(longest))
    fine, refused = server.upsert([longest, longest + "x"])
    assert (fine["status"], refused["status"]) == ("indexed", "failed")
    assert refused["reason"] == "The URL is longer than 8,000 characters."
    for body in ({"url": longest + "x"}, {"query": [{"url": longest + "x"}]}):
        answer = server.client.post("/api/search", json=body)
        assert (answer.status_code, "8000" in answer.json()["detail"]) == (422, True)
    answer = server.client.post("/api/search", json={"text": longest + "x"})
    assert answer.json()["detail"] == "The URL is longer than 8,000 characters."
    for sent in (
        {"json": {"images": [longest + "x"]}, "headers": {"prefer": "respond-async"}},
        {"content": f"url\n{longest}x\n", "headers": {"content-type": "text/csv"}},
    ):
        job = server.client.post("/api/upsert", **sent).json()
        assert server.done(job["id"])["failed"] == 1
        [item] = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
        assert "The URL is longer than 8,000 characters." in item["reason"]
        assert len(item["url"]) < 300
    server.client.post("/index", data={"urls": f"{longest}x\n{longest}"})
    job = server.client.get("/api/jobs").json()["jobs"][0]
    done = server.done(job["id"])
    assert (done["failed"], done["unchanged"]) == (1, 1)
    page = server.client.get("/", params={"url": longest + "x"})
    assert (page.status_code, "8000 characters" in page.text) == (422, True)
