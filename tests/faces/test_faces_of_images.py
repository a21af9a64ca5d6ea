"""Faces from an image's file to the API: made, shown, filtered by, erased."""

import gc
import json
import subprocess
import sys
import weakref
import zlib
from typing import Any

import psycopg
import pytest
from PIL import Image
from pydantic import SecretStr

from app.encoding.encoder import Encoder
from app.faces.lazy import LazyFinder
from app.faces.packages import folder
from app.indexing.face_maker import Looked
from app.lookalike import Lookalike
from app.problems import MissingPackage
from app.search import cursors
from app.settings import Settings
from app.store.images import Entry
from app.store.keys import ApiKeys
from tests.conftest import Server, opened
from tests.faces.conftest import Opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode, photo


def faces_of(server: Server, image: dict[str, Any]) -> list[dict[str, Any]] | None:
    return server.client.get(f"/api/images/{image['id']}").json()["faces"]


def filtered(server: Server, *numbers: str) -> set[str]:
    answer = server.client.post("/api/search", json={"faces": list(numbers)})
    assert answer.status_code == 200, answer.text
    return {hit["url"] for hit in answer.json()["results"]}


def looked(server: Server, loop: Loop) -> Looked:
    maker = server.lookalike.face_maker
    assert maker is not None

    async def last() -> Looked:
        return ([Looked(0, 0)] + [done async for done in maker.run()])[-1]

    return loop.run(last())


def test_faces_are_kept_beside_the_embedding(
    server_with: Opened, portrait: str, stranger: str
) -> None:
    with server_with(faces="vectors") as server:
        one, none = server.upsert([portrait, stranger])
        [face] = faces_of(server, one) or []
        box = face["box"]
        assert box["x"] < 0.43 < box["x"] + box["width"]
        assert box["y"] < 0.24 < box["y"] + box["height"]
        low, high = face["age_range"]
        assert (face["order"], 0 <= low <= high <= 80) == (0, True)
        assert face["gender"] in ("female", "male")
        assert faces_of(server, none) == []

        assert filtered(server, "1", "2") == {portrait}
        assert filtered(server, "0") == {stranger}
        assert filtered(server, "3+") == set()
        facets = server.client.get("/api/facets").json()
        assert {f["value"]: f["count"] for f in facets["faces"]} == {"0": 1, "1": 1}
        found = server.client.post(
            "/api/search", json={"like": [none["id"]], "include": ["faces"]}
        ).json()["results"]
        assert [hit["faces"] for hit in found if hit["url"] == portrait] == [[face]]


def test_levels_keep_no_more_than_they_say(server_with: Opened, portrait: str) -> None:
    with server_with(faces="boxes") as server:
        [image] = server.upsert([portrait])
        [face] = faces_of(server, image) or []
        assert (face["age"], face["age_range"], face["gender"]) == (None, None, None)
        with psycopg.connect(server.lookalike.settings.database_url.get_secret_value()) as database:
            assert database.execute("SELECT count(vector) FROM faces").fetchone() == (0,)


def test_what_is_indexed_already_is_looked_at_later(
    server_with: Opened, loop: Loop, portrait: str, stranger: str, host: ImageHost
) -> None:
    with server_with() as server:
        one, _ = server.upsert([portrait, stranger])
        assert faces_of(server, one) is None
        assert server.client.get("/api/facets").json()["faces"] == []
    with server_with(faces="attributes") as server:
        assert looked(server, loop) == Looked(2, 0)
        assert filtered(server, "1") == {portrait}
        assert looked(server, loop) == Looked(0, 0)
    # A level that needs more looks again, and where the original is gone, at the thumbnail.
    del host.pictures["astronaut.png"]
    with server_with(faces="vectors") as server:
        assert looked(server, loop) == Looked(2, 1)
        assert filtered(server, "1") == {portrait}
    with server_with(faces="boxes") as server:
        assert looked(server, loop) == Looked(0, 0)


def test_forgetting_erases_faces_and_all_that_tells_of_them(
    server_with: Opened, loop: Loop, portrait: str, stranger: str
) -> None:
    with server_with(faces="vectors") as server:
        one, _ = server.upsert([portrait, stranger])
        gone = loop.run(server.lookalike.faces.forget())
        assert (gone.images, gone.faces) == (2, 1)
        assert faces_of(server, one) is None
        assert filtered(server, "0", "1") == set()
        assert remains(server.lookalike) == 0


def test_the_trash_has_no_faces(server_with: Opened, loop: Loop, portrait: str) -> None:
    with server_with(faces="vectors") as server:
        [image] = server.upsert([portrait])
        server.client.delete(f"/api/images/{image['id']}?trash=true")
        assert remains(server.lookalike) == 0
        server.client.post("/api/trash/restore", json={"ids": [image["id"]]})
        assert faces_of(server, image) is None
        assert filtered(server, "1") == set()
        assert looked(server, loop) == Looked(1, 0)
        assert filtered(server, "1") == {portrait}


def test_faces_are_those_of_the_bytes_that_are_there_now(
    server_with: Opened, portrait: str, host: ImageHost
) -> None:
    with server_with(faces="boxes") as server:
        [image] = server.upsert([portrait])
        host.add("astronaut.png", encode(photo(2)))
        server.upsert([portrait])
        assert faces_of(server, image) == []
        assert filtered(server, "0") == {portrait}
    with server_with() as server:
        host.add("astronaut.png", encode(photo(4)))
        server.upsert([portrait])
        assert faces_of(server, image) is None


def test_only_keys_with_the_scope_see_faces(server_with: Opened, loop: Loop, portrait: str) -> None:
    with server_with(faces="boxes", api_keys=(SecretStr("k" * 40),)) as server:
        server.client.headers["authorization"] = f"Bearer {'k' * 40}"
        [image] = server.upsert([portrait])
        assert faces_of(server, image) is None
        for asked in ({"faces": ["1"]}, {"like": [image["id"]], "include": ["faces"]}):
            answer = server.client.post("/api/search", json=asked)
            assert answer.status_code == 403
            assert "faces" in answer.json()["detail"]
        assert server.client.get("/api/facets?faces=1").status_code == 403
        page = server.client.get("/?faces=1")
        assert (page.status_code, portrait in page.text) == (403, False)
        assert server.client.get("/?faces=1&panel=filters").status_code == 403
        assert server.client.get("/api/facets").json()["faces"] == []
        keys = ApiKeys(server.lookalike.database)
        _, secret = loop.run(keys.add("faces", ["read", "faces"]))
        server.client.headers["authorization"] = f"Bearer {secret}"
        assert len(faces_of(server, image) or []) == 1
        assert filtered(server, "1") == {portrait}
        server.client.headers["authorization"] = f"Bearer {'k' * 40}"
        for asked in ({"filters": {"faces": ["1"]}, "order": "newest"}, {"words": "a"}):
            listed = json.dumps({"filters": {"faces": ["1"]}} | asked).encode()
            cursor = cursors.written(zlib.compress(listed))
            answer = server.client.post("/api/search", json={"cursor": cursor})
            assert answer.status_code == 422, answer.text


def test_forgetting_finds_what_no_image_says_any_more(
    server_with: Opened, loop: Loop, portrait: str
) -> None:
    with server_with(faces="boxes") as server:
        server.upsert([portrait])
        url = server.lookalike.settings.database_url
        assert url is not None
        with psycopg.connect(url.get_secret_value()) as database:
            database.execute("UPDATE images SET faces_made = NULL, face_count = NULL")
            database.execute("DELETE FROM faces")
        assert remains(server.lookalike) == 1
        loop.run(server.lookalike.faces.forget())
        assert remains(server.lookalike) == 0


def test_missing_models_are_said_and_indexing_goes_on(
    settings: Settings, loop: Loop, encoder: Encoder, portrait: str
) -> None:
    wanted = settings.model_copy(update={"faces": "boxes"})
    with opened(wanted, loop, encoder) as lookalike:
        assert lookalike.face_maker is None


def test_models_are_loaded_by_the_first_image(server_with: Opened, portrait: str) -> None:
    with server_with(faces="boxes") as server:
        maker = server.lookalike.face_maker
        assert maker is not None
        finder = maker.finder
        assert isinstance(finder, LazyFinder)
        assert not finder.is_loaded
        server.upsert([portrait])
        assert finder.is_loaded


def test_models_that_cannot_be_loaded_stop_no_image(
    settings: Settings, loop: Loop, encoder: Encoder, portrait: str
) -> None:
    folder(settings.data_dir, "boxes").mkdir(parents=True)
    wanted = settings.model_copy(update={"faces": "boxes"})
    with opened(wanted, loop, encoder) as lookalike:
        [outcome] = loop.run(lookalike.indexer.upsert_urls([Entry(portrait)]))
        assert outcome.status == "indexed"
        assert lookalike.face_maker is not None
        with pytest.raises(MissingPackage, match="cannot be loaded"):
            loop.run(anext(lookalike.face_maker.run()))
        image = loop.run(lookalike.catalog.find(outcome.id or Entry(portrait).id))
        assert image is not None
        assert image.face_count is None


def test_models_that_cannot_be_loaded_keep_no_image(settings: Settings) -> None:
    folder(settings.data_dir, "boxes").mkdir(parents=True)
    finder = LazyFinder(settings.data_dir, "boxes")
    seen: list[weakref.ref[Image.Image]] = []
    for _ in range(3):
        image = Image.new("RGB", (8, 8))
        assert finder.look(image) is None
        seen.append(weakref.ref(image))
        del image
    gc.collect()
    assert [one() for one in seen] == [None, None, None]


def test_who_has_not_asked_does_not_load_anything_of_it() -> None:
    program = (
        "import sys, app.web.server, app.lookalike, app.cli.main\n"
        "print([n for n in sys.modules if n.startswith('app.faces')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['app.faces', 'app.faces.face']"


def remains(lookalike: Lookalike) -> int:
    """Return in how many rows of the database something of faces is left."""
    url = lookalike.settings.database_url
    assert url is not None
    table = lookalike.vectors.table.name
    with psycopg.connect(url.get_secret_value()) as database:
        counts = [
            database.execute(statement).fetchone()
            for statement in (
                "SELECT count(*) FROM faces",
                "SELECT count(*) FROM images WHERE faces_made IS NOT NULL",
                "SELECT count(*) FROM images WHERE face_count IS NOT NULL",
                f"SELECT count(*) FROM {table} WHERE labels::text LIKE '%faces:%'",
                "SELECT count(*) FROM trash WHERE vectors::text LIKE '%faces:%'",
                "SELECT count(*) FROM trash WHERE image->>'face_count' IS NOT NULL",
            )
        ]
    return sum(count[0] for count in counts if count)
