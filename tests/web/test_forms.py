"""Files in forms are accepted whatever their part is called, byte for byte."""

import httpx
import pytest

from tests.conftest import Server
from tests.samples import altered, png
from tests.web.test_problems import check

# A PNG holds every byte that a text would be damaged by.
DATA = png(1)
IMAGE = "Content-Type: image/png\r\n"


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server


def send(server: Server, path: str, *parts: bytes) -> httpx.Response:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    return server.client.post(path, content=body, headers=kind)


def part(disposition: str, data: bytes = DATA, kind: str = IMAGE) -> bytes:
    return f"Content-Disposition: form-data; {disposition}\r\n{kind}\r\n".encode() + data


@pytest.mark.parametrize(
    ("disposition", "title"),
    [
        ('name="file"', ""),
        ("name=file", ""),
        ('name="file"; filename=""', ""),
        ('name="file"; filename="photo.png"', "photo.png"),
        ("name=file; filename=photo.png", "photo.png"),
        ('filename="photo.png"; name="file"', "photo.png"),
        ("name=\"file\"; filename*=UTF-8''caf%C3%A9.png", "café.png"),
        ("name=\"file\"; filename*=utf-8'en'caf%C3%A9.png", "café.png"),
        ("name=\"file\"; filename*=ISO-8859-1''caf%E9.png", "café.png"),
        ("name=\"file\"; filename*=UTF-8''%FF.png", "\ufffd.png"),
        ('name="file"; filename="cafe.png"; filename*=UTF-8\'\'caf%C3%A9.png', "café.png"),
        ('name="file"; filename*=nonsense', ""),
        ('name="file"; filename="café.png"', "café.png"),
        ('name="file"; filename="a\0b.png"', "ab.png"),
        ('name="file"; filename="../../etc/photo.png"', "photo.png"),
        ('name="file"; filename="C:\\\\photos\\\\photo.png"', "photo.png"),
        ('name="file"; filename="photos/"', ""),
        ('name="file"; filename="http://["', "["),
        (f'name="file"; filename="{"x" * 3000}.png"', "x" * 1000),
    ],
    ids=lambda value: value[:50],
)
@pytest.mark.parametrize("kind", [IMAGE, ""], ids=["typed", "untyped"])
def test_a_file_is_accepted_whatever_it_is_called(
    server: Server, disposition: str, title: str, kind: str
) -> None:
    sent = part(disposition, kind=kind)
    [outcome] = send(server, "/api/images", sent).json()["results"]
    assert outcome["status"] in ("indexed", "unchanged")
    path = f"/api/images/{outcome['id']}"
    assert server.client.get(path).json()["title"] == title
    assert server.client.get(f"/images/{outcome['id']}/original").content == DATA
    assert len(send(server, "/api/query", sent).json()) == 1
    [found] = send(server, "/api/search", sent).json()["results"]
    assert found["match"] == "exact"
    assert send(server, "/", sent).status_code == 303
    assert server.client.delete(path).status_code == 204


def test_a_file_without_a_name_may_be_large(server: Server) -> None:
    """A text field may have a megabyte; a file without a name is none."""
    large = DATA + bytes(3_000_000)
    assert send(server, "/api/query", part('name="file"', large, "")).status_code == 200
    too_large = part('name="file"', bytes(20_000_001), "")
    check(send(server, "/api/query", too_large), 413)


def test_several_files_without_names(server: Server) -> None:
    answer = send(
        server, "/api/images", part('name="file"'), part('name="file"', altered(DATA), "")
    )
    assert [outcome["status"] for outcome in answer.json()["results"]] == ["indexed"] * 2


def test_an_empty_part_that_a_browser_sends_is_no_file(server: Server) -> None:
    empty = part('name="file"; filename=""', b"", "Content-Type: application/octet-stream\r\n")
    check(send(server, "/api/query", empty), 400)
    check(send(server, "/api/images", empty), 400)
    answer = send(server, "/api/search", empty, part('name="text"', b"cat", ""))
    assert answer.status_code == 200


def test_an_empty_file_with_a_name_is_said_to_be_empty(server: Server) -> None:
    empty = part('name="file"; filename="a.png"', b"")
    assert "empty" in check(send(server, "/api/query", empty), 422)["detail"]


def test_an_image_in_another_field_is_named(server: Server) -> None:
    for disposition in ('name="picture"', 'name="picture"; filename="a.png"'):
        document = check(send(server, "/api/search", part(disposition)), 422)
        assert document["detail"] == "picture: unknown field; send images as `file`."


def test_a_text_that_is_not_in_utf_8_is_named(server: Server) -> None:
    document = check(send(server, "/api/search", part('name="text"', b"caf\xe9", "")), 422)
    assert document["detail"] == "text: it is not in UTF-8."


def test_a_form_that_is_cut_off_says_so(server: Server) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = server.client.post(
        "/api/query", content=b"--b\r\n" + part('name="file"'), headers=kind
    )
    assert "last boundary" in check(answer, 400)["detail"]
