"""Searches where images have a copy vector and a semantic one: which of them answers what."""

import re
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from app.encoding.encoder import Encoder, Vector
from app.encoding.loading import Encoders
from app.encoding.onnx_model import OnnxModel
from app.lookalike import Lookalike, open_lookalike
from app.search.asked import Asked
from app.settings import Settings
from app.store.images import Entry
from app.store.spaces import Space
from app.store.vectors import NewVector
from app.web.server import create_app
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import encode, photo

SIZE = (320, 240)
PHOTOS = 30


@pytest.fixture
def tiny(tmp_path: Path) -> OnnxModel:
    return OnnxModel(write_clip(tmp_path / "tiny"), name="tiny")


def served(settings: Settings, loop: Loop, copy: Encoder, semantic: Encoder) -> Generator[Server]:
    with (
        closing(Encoder(copy.model, source="builtin")) as own,
        closing(semantic),
        loop.entered(
            open_lookalike(settings, announce=lambda _: None, encoders=Encoders(own, semantic))
        ) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


@pytest.fixture
def pair(settings: Settings, loop: Loop, encoder: Encoder, tiny: OnnxModel) -> Generator[Server]:
    """A server with the built-in copy encoder beside one that knows nothing of images."""
    yield from served(settings, loop, encoder, Encoder(tiny, source="tiny"))


@pytest.fixture
def lite_like(
    settings: Settings, loop: Loop, encoder: Encoder, tiny: OnnxModel
) -> Generator[Server]:
    """The same, under the name of lite, whose similarities are not calibrated."""
    yield from served(settings, loop, encoder, Encoder(tiny, source="lite"))


@pytest.fixture
def entries(pair: Server, host: ImageHost) -> list[Entry]:
    return indexed(pair, host)


def indexed(server: Server, host: ImageHost) -> list[Entry]:
    urls = [host.add(f"{seed}.png", encode(photo(seed, SIZE))) for seed in range(PHOTOS)]
    assert {result["status"] for result in server.upsert(urls)} == {"indexed"}
    return [Entry(url) for url in urls]


def cropped(seed: int) -> bytes:
    return encode(photo(seed, SIZE).crop((40, 30, 300, 220)))


async def set_vector(lookalike: Lookalike, space: Space, entry: Entry, vector: Vector) -> None:
    image = await lookalike.catalog.find(entry.id)
    assert image is not None
    new = NewVector(Entry(entry.url).over(image), image, image.sha256, vector)
    async with lookalike.database.begin() as connection:
        await space.vectors.upsert(connection, [new])


async def forget(lookalike: Lookalike, space: Space, image_id: UUID) -> None:
    statement = text(f"DELETE FROM {space.vectors.table.name} WHERE node_id = :id")
    async with lookalike.database.begin() as connection:
        await connection.execute(statement, {"id": str(image_id)})


def bury(server: Server, loop: Loop, entry: Entry, query: bytes) -> None:
    """Make an image the last of a query's results by the semantic vectors."""
    lookalike = server.lookalike
    space = lookalike.index.spaces.semantic
    _, prepared = loop.run(lookalike.decoder.decode_and(query, space.encoder.prepare))
    vector = loop.run(space.encoder.embed_prepared(prepared))
    loop.run(set_vector(lookalike, space, entry, -np.asarray(vector)))


def pages(server: Server, query: bytes, limit: int, **given: Any) -> list[list[dict[str, Any]]]:
    """Return the results of a search, page by page."""
    form = {"limit": str(limit), **given}
    answer = server.client.post("/api/search", files={"file": query}, data=form).json()
    found = [answer["results"]]
    while answer["next"]:
        answer = server.client.post(
            "/api/search", json={"cursor": answer["next"], "limit": limit}
        ).json()
        found.append(answer["results"])
    return found


def test_a_copy_comes_first_although_it_looks_least_alike(
    pair: Server, loop: Loop, entries: list[Entry]
) -> None:
    query = cropped(3)
    bury(pair, loop, entries[3], query)
    first, *others = pair.search(query)
    assert (first["id"], first["match"]) == (str(entries[3].id), "copy")
    assert first["similarity"] < -0.9
    assert first["copy_similarity"] > 0.7
    # Then what looks alike, by the other vector and without a threshold.
    assert {other["match"] for other in others} == {"similar"}
    assert len(others) == PHOTOS - 1
    similarities = [other["similarity"] for other in others]
    assert similarities == sorted(similarities, reverse=True)
    copies = [other["copy_similarity"] for other in others]
    assert copies != sorted(copies, reverse=True)


@pytest.mark.parametrize("limit", [1, 7])
def test_pages_go_on_through_both_parts_and_no_image_is_in_two(
    pair: Server, loop: Loop, entries: list[Entry], limit: int
) -> None:
    query = cropped(3)
    bury(pair, loop, entries[3], query)
    found = pages(pair, query, limit)
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    ids = [hit["id"] for page in found for hit in page]
    assert ids == [hit["id"] for hit in pair.search(query)]
    assert len(set(ids)) == len(ids) == PHOTOS
    assert all(hit["copy_similarity"] is not None for page in found for hit in page)


def test_a_copy_without_a_copy_vector_is_found_by_the_other(
    pair: Server, loop: Loop, entries: list[Entry]
) -> None:
    spaces = pair.lookalike.index.spaces
    loop.run(forget(pair.lookalike, spaces.copy, entries[3].id))
    found = pair.search(encode(photo(3, SIZE).resize((200, 150))))[0]
    assert (found["id"], found["match"]) == (str(entries[3].id), "copy")
    assert found["copy_similarity"] is None
    # Asked for by its id, it has no copy vector either.
    body = {"query": [{"id": str(entries[3].id)}]}
    answer = pair.client.post("/api/search", json=body).json()
    assert len(answer["results"]) == PHOTOS - 1


def test_a_threshold_is_one_that_was_chosen(pair: Server, loop: Loop, entries: list[Entry]) -> None:
    query = cropped(3)
    bury(pair, loop, entries[3], query)
    assert [hit["match"] for hit in pair.search(query, min_similarity="1")] == ["copy"]
    assert [hit["match"] for hit in pair.search(query, match="copy")] == ["copy"]


def test_a_setting_is_a_chosen_threshold(
    settings: Settings, loop: Loop, encoder: Encoder, tiny: OnnxModel, host: ImageHost
) -> None:
    chosen = Settings(**{**settings.model_dump(exclude_unset=True), "min_similarity": 0.999})
    for server in served(chosen, loop, encoder, Encoder(tiny, source="tiny")):
        indexed(server, host)
        assert [hit["match"] for hit in server.search(cropped(3))] == ["copy"]


def test_query_is_by_the_cosine_of_a_clip(pair: Server, loop: Loop, entries: list[Entry]) -> None:
    query = encode(photo(3, SIZE).resize((200, 150)))
    assert entries[3].url in pair.query(query)
    bury(pair, loop, entries[3], query)
    assert entries[3].url not in pair.query(query)


def test_query_is_by_the_copy_vector_where_the_other_is_not_calibrated(
    lite_like: Server, loop: Loop, host: ImageHost
) -> None:
    entries = indexed(lite_like, host)
    query = encode(photo(3, SIZE).resize((200, 150)))
    bury(lite_like, loop, entries[3], query)
    assert lite_like.query(query) == [entries[3].url]
    verified = lite_like.client.post(
        "/api/query", files={"file": query}, data={"verified": "true"}
    ).json()
    assert verified == [entries[3].url]


def test_texts_and_regions_are_by_the_semantic_vector(pair: Server, entries: list[Entry]) -> None:
    for body in (
        {"text": "a red cat"},
        {
            "query": [{"id": str(entries[1].id)}],
            "crop": {"x": 0, "y": 0, "width": 0.5, "height": 1},
        },
        {"like": [str(entries[1].id)]},
    ):
        answer = pair.client.post("/api/search", json=body)
        assert answer.status_code == 200, answer.text
        assert {hit["copy_similarity"] for hit in answer.json()["results"]} == {None}


def test_two_images_are_compared_by_both(pair: Server, entries: list[Entry]) -> None:
    ids = {"a": str(entries[1].id), "b": str(entries[2].id)}
    verdict = pair.client.post("/api/compare", json=ids).json()
    assert (verdict["match"], verdict["similarity"] != verdict["copy_similarity"]) == (
        "similar",
        True,
    )


def test_the_page_has_a_heading_between_what_is_proved_and_what_looks_alike(
    pair: Server, entries: list[Entry]
) -> None:
    page = pair.client.get("/", params={"url": entries[3].url}).text
    [before, after] = page.split("<h3>Looks alike</h3>")
    assert re.findall(r'<span class="badge (\w+)"', before) == ["exact"]
    assert set(re.findall(r'<span class="badge (\w+)"', after)) == {"similar"}
    # The slider of a threshold that is not applied is neither shown nor sent.
    assert re.search(r'name="min_similarity"[^>]*disabled', page)
    by_words = pair.client.get("/", params={"text": "a red cat"}).text
    assert "<h3>Looks alike</h3>" not in by_words


@pytest.mark.parametrize(
    "changed", [{"copy_vector": b"\0" * 6}, {"copy_vector": b"\xff" * 1024}, {"ranked_by": "copy"}]
)
def test_a_cursor_with_another_vector_is_refused(
    pair: Server, entries: list[Entry], changed: dict[str, Any]
) -> None:
    answer = pair.client.post("/api/search", files={"file": cropped(3)}, data={"limit": "2"}).json()
    asked = Asked.read(answer["next"], spaces=pair.lookalike.index.spaces)
    cursor = asked.model_copy(update=changed).cursor()
    refused = pair.client.post("/api/search", json={"cursor": cursor})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("cursor: ")


def test_beside_the_same_image_is_how_alike_it_is_as_a_copy(
    pair: Server, loop: Loop, entries: list[Entry], host: ImageHost
) -> None:
    """By what it shows, it may be far away, which says nothing against it."""
    copy = Entry(host.add("copy.png", cropped(3)))
    pair.upsert([copy.url])
    lookalike = pair.lookalike
    spaces = lookalike.index.spaces
    vectors = loop.run(spaces.semantic.vectors.fetch([copy.id]))
    loop.run(set_vector(lookalike, spaces.semantic, entries[3], -vectors[copy.id]))
    compared = {"a": str(copy.id), "b": str(entries[3].id)}
    alike = pair.client.post("/api/compare", json=compared).json()
    assert (alike["match"], alike["similarity"]) == ("copy", pytest.approx(-1, abs=0.01))
    expected = f"{alike['copy_similarity']:.3f}"
    for path in (f"/images/{copy.id}", f"/compare?a={copy.id}&b={entries[3].id}"):
        page = pair.client.get(path).text
        assert f">{expected}" in page, path
        assert ">-1.000" not in page, path
