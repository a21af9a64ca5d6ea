"""What the client connects to, what it sends, and what it makes of servers that break the rules."""

import asyncio
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from app.indexing.addresses import Target, target_of
from app.indexing.fetcher import Fetcher
from app.indexing.http_client import HttpClient
from app.problems import AddressRefused, BadUrl, FetchFailed, FetchTimedOut, Problem

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]


class Host:
    """Answers each request of a connection by `answer`, until that returns False."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.heads: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if not await self.answer(head, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.set()


def on(
    answer: Answer, use: Callable[[Host, Fetcher, str], Awaitable[Any]], **options: Any
) -> tuple[Any, Host]:
    """Let `use` fetch from a host that answers so; the last argument is the host's URL."""
    tls = options.pop("tls", None)

    async def run() -> tuple[Any, Host]:
        host = Host(answer)
        given = {"allow": ["127.0.0.1"], "timeout_s": 60, "max_bytes": 1_000_000, **options}
        fetcher = Fetcher(**given)
        server = await asyncio.start_server(host.serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        try:
            url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
            return await use(host, fetcher, url), host
        finally:
            await fetcher.close()
            server.close()

    return asyncio.run(run())


def saying(*pieces: bytes, stays: bool = True) -> Answer:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return stays

    return answer


async def once(_: Host, fetcher: Fetcher, url: str) -> Any:
    try:
        return await fetcher.fetch(f"{url}/x")
    except Problem as problem:
        return problem


async def twice(host: Host, fetcher: Fetcher, url: str) -> Any:
    return await once(host, fetcher, url), await once(host, fetcher, url)


IMAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage"


def test_a_literal_address_is_checked_when_its_socket_is_opened() -> None:
    """Even if nothing checked it before."""

    async def ask(host: Host, _: Fetcher, url: str) -> None:
        async def resolve(*_: Any) -> list[str]:
            raise AssertionError

        client = HttpClient(may_fetch=lambda *_: False, resolve=resolve)
        port = URL(url).port or 0
        try:
            for literal in ("127.0.0.1", "[::ffff:127.0.0.1]"):
                target = Target(f"http://{literal}:{port}/x", literal.strip("[]"), port)
                with pytest.raises(AddressRefused):
                    await client.get(target, {})
        finally:
            await client.close()
        assert host.connections == 0

    on(saying(IMAGE), ask)


def test_a_name_is_connected_to_where_it_was_found_and_nowhere_else() -> None:
    async def ask(host: Host, _: Fetcher, url: str) -> list[Any]:
        found = iter([["127.0.0.1"], ["10.0.0.1", "127.0.0.1"]])
        checked: list[tuple[str, str]] = []

        async def resolve(name: str, port: int) -> list[str]:
            assert (name, port) == ("a.example", URL(url).port)
            return next(found)

        def may_fetch(name: str, ip: Any) -> bool:
            checked.append((name, str(ip)))
            return str(ip) == "127.0.0.1"

        client = HttpClient(may_fetch=may_fetch, resolve=resolve)
        target = target_of(f"http://a.example:{URL(url).port}/x")
        try:
            async with await client.get(target, {}) as response:
                await response.read()
        finally:
            await client.close()
        assert host.connections == 1
        return checked

    checked, host = on(saying(IMAGE), ask)
    assert checked == [("a.example", "127.0.0.1")]
    assert b"\r\nHost: a.example:" in host.heads[0]


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    outcome, _ = on(saying(IMAGE), once)
    assert outcome == b"image"


def test_a_connection_is_used_again_but_not_one_on_which_more_came_than_was_asked_for() -> None:
    outcomes, host = on(saying(IMAGE), twice)
    assert (outcomes, host.connections) == ((b"image", b"image"), 1)
    spoilt = IMAGE + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
    outcomes, host = on(saying(spoilt), twice)
    assert (outcomes, host.connections) == ((b"image", b"image"), 2)


def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async def close_and_ask(host: Host, fetcher: Fetcher, url: str) -> Any:
        first = await once(host, fetcher, url)
        await host.ended.wait()
        return first, await once(host, fetcher, url)

    outcomes, host = on(saying(IMAGE, stays=False), close_and_ask)
    assert (outcomes, host.connections) == ((b"image", b"image"), 2)


def test_a_url_is_sent_as_it_is_written() -> None:
    written = "/a%2Fb%2fc/%41~%7e%E9;p=1/%/x+y%20z?q=%2B+%26&u=http://h/?x#fragment"

    async def ask(_: Host, fetcher: Fetcher, url: str) -> None:
        await fetcher.fetch(url + written)
        await fetcher.fetch(f"{url}/../a/./b c/é?ü={{}}|^")

    _, host = on(saying(IMAGE), ask)
    lines = [head.split(b"\r\n")[0].decode() for head in host.heads]
    assert lines == [
        f"GET {written.partition('#')[0]} HTTP/1.1",
        "GET /a/b%20c/%C3%A9?%C3%BC={}|^ HTTP/1.1",
    ]


@pytest.mark.parametrize(
    ("written", "sent"),
    [("/a/b/..", "/a/"), ("/a/.", "/a/"), ("/a/..", "/"), ("/..", "/"), ("/a/../../b", "/b"),
     ("/./a/...", "/a/..."), ("/a//../b", "/a/b"), ("/a.", "/a."), ("/a/..?b/..", "/?b/..")],
)  # fmt: skip
def test_dots_are_removed_from_paths_as_browsers_do(written: str, sent: str) -> None:
    assert target_of(f"http://h.example{written}").url == f"http://h.example{sent}"


PIECES = "abzAZ09-._~!$&'()*+,;=:@/?[]{}|\\^`\"<> %\u00e9\u2603"
pieces = st.lists(
    st.sampled_from([*PIECES, "%41", "%2f", "%zz", "/../", "/./", "/..", "//", "?"]), max_size=12
).map("".join)


@given(
    origin=st.sampled_from(["http://h.example", "HTTPS://H.Example:8443", "https://[2606::1]:443"]),
    rest=pieces,
)
@example(origin="http://h.example", rest="?")
def test_what_is_sent_is_what_other_clients_send_and_read(origin: str, rest: str) -> None:
    url = f"{origin}/{rest}"
    # httpx drops the slash after these.
    assume(not url.partition("?")[0].endswith(("/.", "/..")))
    target = target_of(url)
    other = httpx.URL(url)
    path = other.raw_path.decode().rstrip("?") or "/"
    assert (target.host, target.url.split("/", 3)[3].rstrip("?")) == (other.host, path[1:])
    read = URL(target.url, encoded=True)
    assert (read.raw_host, read.port) == (target.host, target.port)
    assert str(read) == target.url
    assert target_of(target.url) == target


@pytest.mark.parametrize(
    "url",
    ["http://a b/", "http://a%41b/", "http://a\\b/", "http://a\tb/", "http://a/\n", " http://a/",
     "http://[v1.x]/", "http://a:b/", "http://\u2603\ufe0f.example/", "http://a..b/", "http://a'b/"],
)  # fmt: skip
def test_a_host_that_parsers_may_read_differently_is_none(url: str) -> None:
    with pytest.raises(BadUrl):
        target_of(url)


@pytest.mark.parametrize("url", ["http://[fe80::1%25eth0]/", "http://[2606::1%1]/"])
def test_an_interface_of_this_machine_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        target_of(url)


def test_an_international_name_is_sent_in_ascii() -> None:
    assert target_of("http://B\u00fccher.example/").host == "xn--bcher-kva.example"
    with pytest.raises(AddressRefused):
        target_of("http://0x7f\u30020.0.1/")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", IMAGE],
        [CHUNKED, b"2\r\nim\r\n", b"3;ext=1\r\nage\r\n", b"0\r\nTrailer: x\r\n\r\n"],
        [bytes([byte]) for byte in IMAGE],
    ],
    ids=["informed first", "in chunks", "byte by byte"],
)
def test_an_answer_in_any_pieces_is_whole(pieces: list[bytes]) -> None:
    assert on(saying(*pieces), once)[0] == b"image"


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.0 200 OK\r\n\r\nimage", b"HTTP/1.1 200\r\n\r\nimage"],
    ids=["until it closes", "without a reason"],
)
def test_an_answer_may_last_until_the_connection_ends(raw: bytes) -> None:
    assert on(saying(raw, stays=False), once)[0] == b"image"


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"5\r\nima",
        CHUNKED + b"5\r\nimage\r\n",
        CHUNKED + b"-5\r\nimage\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\nimage",
        CHUNKED + b"5\r\nimageX\r\n0\r\n\r\n",
        CHUNKED + b"5;" + b"x" * 2_000_000,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, x\r\nContent-Length: 5\r\n\r\nimage",
        b"HTTP/1.1 200 OK\r\nX: y",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nimage",
        b"HTTP/1.1 200 " + b"x" * 1_000_000,
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\nimage",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\r\nHTTP",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100_000,
    ],
    ids=lambda raw: raw[-40:].decode("latin-1"),
)
def test_an_answer_against_the_rules_fails_that_url_alone(raw: bytes) -> None:
    async def bad_and_good(host: Host, fetcher: Fetcher, url: str) -> Any:
        bad = await once(host, fetcher, url)
        host.answer = saying(IMAGE)
        return bad, await once(host, fetcher, url)

    (bad, good), _ = on(saying(raw, stays=False), bad_and_good)
    assert isinstance(bad, Problem), bad
    assert good == b"image"


def broken_off(first: bytes) -> Answer:
    """Send something, and reset the connection once all of it is sent."""

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(first)
        await writer.drain()
        open_socket = writer.get_extra_info("socket")
        open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False

    return answer


@pytest.mark.parametrize("body", [b"", b"image"], ids=["at once", "later"])
def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(body: bytes) -> None:
    """Also if nothing but the end of the connection says where it ends."""
    outcome, _ = on(broken_off(b"HTTP/1.1 200 OK\r\n\r\n" + body), once)
    assert isinstance(outcome, FetchFailed), outcome


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=200), head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED]))
def test_whatever_a_server_sends_is_a_body_or_a_problem(raw: bytes, head: bytes) -> None:
    outcome, _ = on(saying(head + raw, stays=False), once)
    assert isinstance(outcome, (bytes, Problem))


def test_answers_before_the_answer_end_with_the_time() -> None:
    async def flood(_: bytes, writer: asyncio.StreamWriter) -> bool:
        while True:
            writer.write(b"HTTP/1.1 103 Hints\r\n\r\n" * 1000)
            await writer.drain()

    outcome, _ = on(flood, once, timeout_s=0.3)
    assert isinstance(outcome, FetchTimedOut)


def test_a_certificate_that_no_one_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    outcome, host = on(saying(IMAGE), once, tls=context)
    assert isinstance(outcome, FetchFailed)
    assert host.heads == []


def test_a_refused_address_is_counted_like_every_other_outcome() -> None:
    async def ask(host: Host, fetcher: Fetcher, url: str) -> Any:
        outcomes = [await once(host, fetcher, asked) for asked in (url, "http://0x7f.1")]
        return [type(outcome) for outcome in outcomes], dict(fetcher.outcomes)

    moved = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    outcomes, _ = on(saying(moved), ask)
    assert outcomes == ([AddressRefused] * 2, {"address-refused": 2})
