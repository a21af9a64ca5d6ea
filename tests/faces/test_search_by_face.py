"""Search by a face: which images have it, where in them, and what is refused."""

import json
import zlib
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from PIL import Image, ImageOps
from pydantic import SecretStr

from app.search import cursors
from app.store.keys import ApiKeys
from lookalike import Client
from tests.conftest import Server
from tests.faces.conftest import Opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode


@pytest.fixture
def both(host: ImageHost, astronaut: Image.Image, cameraman: Image.Image) -> str:
    """Two people: the cameraman on the left, and the astronaut, mirrored."""
    image = Image.new("RGB", (1024, 512))
    image.paste(cameraman.resize((768, 768)), (0, 0))
    image.paste(ImageOps.mirror(astronaut), (512, 0))
    return host.add("both.png", encode(image))


def by_face(server: Server, **asked: Any) -> list[dict[str, Any]]:
    answer = server.client.post("/api/search", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["min_similarity"] == asked.get("min_similarity", 0.94)
    return answer.json()["results"]


def refused(server: Server, status: int, **asked: Any) -> str:
    answer = server.client.post("/api/search", json=asked)
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


def test_a_face_finds_the_images_that_have_it(
    server_with: Opened, portrait: str, stranger: str, both: str, host: ImageHost
) -> None:
    with server_with(faces="vectors") as server:
        one, _, two = server.upsert([portrait, stranger, {"url": both, "tags": ["pair"]}])
        [hit] = by_face(server, face={"id": one["id"], "order": 0})
        assert hit["url"] == both
        assert hit["face"]["order"] == 1
        assert hit["face"]["box"]["x"] > 0.5
        assert hit["face"]["similarity"] == hit["similarity"] > 0.94
        assert hit["match"] is None

        [hit] = by_face(server, face={"id": two["id"], "order": 1})
        assert (hit["url"], hit["face"]["order"]) == (portrait, 0)
        assert by_face(server, face={"id": two["id"], "order": 0}) == []
        assert len(by_face(server, face={"id": two["id"], "order": 0}, min_similarity=0.5)) == 1
        # An image with one face needs no order; filters count.
        assert len(by_face(server, face={"id": one["id"]}, tags=["pair"])) == 1
        assert by_face(server, face={"id": one["id"]}, tags=["other"]) == []
        assert len(by_face(server, face={"id": one["id"]}, faces=["2"])) == 1


def test_an_upload_is_searched_by_the_chosen_box(
    server_with: Opened, portrait: str, both: str, host: ImageHost
) -> None:
    with server_with(faces="vectors") as server:
        server.upsert([portrait])
        data = host.pictures["both.png"]
        right, left = "0.7,0.1,0.2,0.3", "0,0,0.45,0.9"
        [hit] = server.search(data, face=right)
        assert (hit["url"], hit["face"]["order"]) == (portrait, 0)
        assert server.search(data, face=left) == []
        assert [hit["url"] for hit in server.search(data, face="1")] == [portrait]
        answer = server.client.post("/api/search", files={"file": data}, data={"face": ":"})
        assert "2 faces; choose one" in answer.json()["detail"]
        answer = server.client.post("/api/search", files={"file": data}, data={"face": "0,0,.01,1"})
        assert "no face in this box" in answer.json()["detail"]


def test_pages_are_a_partition(
    server_with: Opened, host: ImageHost, astronaut: Image.Image
) -> None:
    def copy(number: int) -> str:
        copied = ImageOps.expand(astronaut, border=number)
        return host.add(f"{number}.png", encode(copied))

    with server_with(faces="vectors") as server:
        first, *others = server.upsert([copy(number) for number in range(8)])
        asked: dict[str, Any] = {"face": {"id": first["id"], "order": 0}, "limit": 3}
        found: list[str] = []
        similarities: list[float] = []
        while asked:
            answer = server.client.post("/api/search", json=asked).json()
            found += [hit["id"] for hit in answer["results"]]
            similarities += [hit["similarity"] for hit in answer["results"]]
            asked = {"cursor": answer["next"], "limit": 2} if answer["next"] else {}
        assert sorted(found) == sorted(image["id"] for image in others)
        assert similarities == sorted(similarities, reverse=True)


def test_many_faces_are_searched_by_their_index(server_with: Opened, portrait: str) -> None:
    with server_with(faces="vectors") as server:
        [image] = server.upsert([portrait])
        url = server.lookalike.settings.database_url
        assert url is not None
        rng = np.random.default_rng(0)
        with psycopg.connect(url.get_secret_value()) as database:
            for number in range(40):
                database.execute(
                    "INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format,"
                    " exif, title, description, tags, thumbnail, metadata, words)"
                    " SELECT %s, %s, sha256, dhash, bytes, width, height, format, exif, title,"
                    " description, tags, thumbnail, metadata, words FROM images LIMIT 1",
                    [UUID(int=number), f"http://localhost/{number}"],
                )
                rows = [
                    f"[{','.join(f'{x:.4f}' for x in rng.normal(size=128))}]" for _ in range(130)
                ]
                database.cursor().executemany(
                    'INSERT INTO faces (image_id, "order", x, y, width, height, confidence,'
                    " landmarks, vector) VALUES (%s, %s, 0, 0, 1, 1, 1, '{}', %s)",
                    [(UUID(int=number), order, row) for order, row in enumerate(rows)],
                )
            database.execute(
                "UPDATE faces SET vector = (SELECT vector FROM faces WHERE image_id = %s) WHERE"
                ' image_id = %s AND "order" = 77',
                [image["id"], UUID(int=5)],
            )
        [hit] = by_face(server, face={"id": image["id"]})
        assert (hit["id"], hit["face"]["order"]) == (str(UUID(int=5)), 77)
        # An image that has the same face many times leaves others their places.
        farther = f"[{','.join(f'{x:.4f}' for x in rng.normal(size=128) / 100)}]"
        with psycopg.connect(url.get_secret_value()) as database:
            for number, more in ((5, f"[{','.join('0' * 128)}]"), (7, farther), (8, farther)):
                database.execute(
                    "UPDATE faces SET vector = %s + (SELECT vector FROM faces WHERE image_id = %s)"
                    ' WHERE image_id = %s AND "order" < 30',
                    [more, image["id"], UUID(int=number)],
                )
        found: list[str] = []
        asked: dict[str, Any] = {"face": {"id": image["id"]}, "limit": 1}
        while asked:
            answer = server.client.post("/api/search", json=asked).json()
            found += [hit["id"] for hit in answer["results"]]
            asked = {"cursor": answer["next"], "limit": 1} if answer["next"] else {}
        assert sorted(found) == [str(UUID(int=number)) for number in (5, 7, 8)]


def test_filters_of_a_cursor_are_checked_as_those_of_a_request(
    server_with: Opened, portrait: str
) -> None:
    vector = cursors.written(np.ones(128, np.float16).tobytes())
    with server_with(faces="vectors") as server:
        server.upsert([portrait])
        for filters in (
            {"min_width": 10**30},
            {"tags": ["a\0b"]},
            {"formats": ["x" * 5000]},
        ):
            asked = {"vector": vector, "lowest": 0.9, "filters": filters}
            cursor = "face_" + cursors.written(zlib.compress(json.dumps(asked).encode()))
            refused(server, 422, cursor=cursor)


def test_what_cannot_be_searched_by_is_said(
    server_with: Opened,
    portrait: str,
    stranger: str,
    both: str,
    host: ImageHost,
    astronaut: Image.Image,
) -> None:
    small = host.add("small.png", encode(astronaut.resize((180, 180))))
    with server_with(faces="vectors") as server:
        one, none, two, tiny = server.upsert([portrait, stranger, both, small])
        face = {"id": one["id"], "order": 0}
        assert "2 faces; choose one" in refused(server, 422, face={"id": two["id"]})
        assert "no face 7" in refused(server, 422, face={"id": two["id"], "order": 7})
        assert "no face was found" in refused(server, 422, face={"id": none["id"]})
        assert "smaller than 40 pixels" in refused(server, 422, face={"id": tiny["id"]})
        assert "no such image" in refused(server, 404, face={"id": str(UUID(int=1)), "order": 0})
        assert "send an image" in refused(server, 422, face={"order": 0})
        for name, value in (
            ("text", "a cat"),
            ("like", [one["id"]]),
            ("match", "copy"),
            ("sort", "newest"),
            ("crop", {"x": 0, "y": 0, "width": 1, "height": 1}),
            ("diversity", 0.5),
        ):
            detail = refused(server, 422, face=face, **{name: value})
            assert detail == f"{name}: a search by a face has none."
        for cursor in ("face_", "face_AAAA", "face_" + cursors.written(zlib.compress(b"{}"))):
            assert "cursor" in refused(server, 422, cursor=cursor)
    with server_with(faces="boxes") as server:
        assert "FACES=vectors" in refused(server, 422, face=face)


def test_only_keys_with_the_scope_search_by_faces(
    server_with: Opened, loop: Loop, portrait: str, both: str
) -> None:
    with server_with(faces="vectors", api_keys=(SecretStr("k" * 40),)) as server:
        server.client.headers["authorization"] = f"Bearer {'k' * 40}"
        one, _ = server.upsert([portrait, both])
        face = {"id": one["id"], "order": 0}
        refused(server, 403, face=face)
        assert server.client.get(f"/?face={one['id']}:0").status_code == 403
        _, secret = loop.run(ApiKeys(server.lookalike.database).add("f", ["read", "faces"]))
        server.client.headers["authorization"] = f"Bearer {secret}"
        answer = server.client.post(
            "/api/search", json={"face": face, "limit": 1, "min_similarity": -1}
        ).json()
        assert len(answer["results"]) == 1


def test_the_python_client_searches_by_faces(
    server_with: Opened, portrait: str, both: str, host: ImageHost
) -> None:
    with server_with(faces="vectors") as server, Client(server.address) as client:
        one, _ = client.upsert([portrait, both])
        assert one.id is not None
        [hit] = client.search(face=(one.id, 0), include=["faces"]).hits
        assert hit.face is not None
        assert (hit.url, hit.face.order) == (both, 1)
        assert [face.order for face in hit.faces or ()] == [0, 1]
        assert client.image(one.id).faces is not None
        data = host.pictures["both.png"]
        for face in (1, (0.7, 0.1, 0.2, 0.3)):
            assert {hit.url for hit in client.search(data, face=face).hits} == {both, portrait}


def test_without_faces_no_one_searches_by_them(server_with: Opened, portrait: str) -> None:
    with server_with() as server:
        [image] = server.upsert([portrait])
        refused(server, 403, face={"id": image["id"], "order": 0})
