import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.indexing.fetcher import MOST_FETCHES, MOST_FETCHES_PER_HOST, Fetcher, is_public
from app.problems import (
    AddressRefused,
    BadUrl,
    FetchFailed,
    FetchTimedOut,
    PictureTooLarge,
    Problem,
    TooManyRedirects,
    UrlNotFound,
    UrlRefused,
)
from tests.image_host import ImageHost
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


def test_a_name_nobody_knows() -> None:
    assert isinstance(problem_of("http://nowhere.invalid/x"), (UrlNotFound, FetchFailed))


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


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("192.0.2.1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
