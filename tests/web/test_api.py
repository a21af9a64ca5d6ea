"""The contract of the HTTP API, over real HTTP."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.encoding.encoder import Encoder
from app.settings import Settings
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, encode, photo, png
from tests.statements import counting


def test_upsert_then_query_as_the_contract_says(server: Server, host: ImageHost) -> None:
    urls = [host.url(f"seed/{seed}.png") for seed in range(4)]
    answer = server.client.post("/api/upsert", json={"images": urls})
    assert answer.status_code == 200
    found = server.client.post("/api/query", files={"file": ("photo.jpg", altered(png(2)))})
    assert found.json() == [urls[2]]


def test_upsert_returns_one_outcome_per_url_in_order(server: Server, host: ImageHost) -> None:
    good, bad = host.url("seed/1.png"), host.url("status/404")
    first, second, third = server.upsert([good, bad, host.url("seed/2.png")])
    assert (first["url"], first["status"]) == (good, "indexed")
    assert (second["url"], second["status"], second["id"]) == (bad, "failed", None)
    assert "404" in second["reason"]
    assert third["status"] == "indexed"
    assert server.upsert([good])[0]["status"] == "unchanged"


def test_upsert_stores_title_description_and_tags(server: Server, host: ImageHost) -> None:
    url = host.url("seed/1.png")
    details = {"title": "Discs", "description": "Many discs", "tags": ["round", "test"]}
    [outcome] = server.upsert([{"url": url, **details}])
    shown = server.client.get(f"/api/images/{outcome['id']}").json()
    assert {key: shown[key] for key in details} == details
    # A plain URL leaves the details as they are.
    assert server.upsert([url])[0]["status"] == "unchanged"
    assert server.upsert([{"url": url, "title": "Circles"}])[0]["status"] == "updated"
    shown = server.client.get(f"/api/images/{outcome['id']}").json()
    assert (shown["title"], shown["tags"]) == ("Circles", ["round", "test"])


def test_an_empty_upsert_returns_an_empty_list(shared_server: Server) -> None:
    assert shared_server.upsert([]) == []


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "images"),
        ({"images": "x"}, "images"),
        ({"images": [1]}, "images.0"),
        ({"images": [{"title": "no url"}]}, "images.0.url"),
        ({"images": [], "colour": 1}, "colour"),
        ({"images": [{"url": "x", "size": 1}]}, "images.0.size"),
        ([], "body"),
    ],
)
def test_an_invalid_upsert_names_the_field(shared_server: Server, body: Any, names: str) -> None:
    answer = shared_server.client.post("/api/upsert", json=body)
    assert answer.status_code == 422
    assert names in answer.json()["detail"]


def test_a_body_that_is_not_json(shared_server: Server) -> None:
    answer = shared_server.client.post("/api/upsert", content=b"{")
    assert (answer.status_code, answer.json()["detail"]) == (422, "The body is not valid JSON.")


def test_query_without_a_file_is_a_400(shared_server: Server) -> None:
    for files in ({}, {"other": b"x"}):
        answer = shared_server.client.post("/api/query", files=files or None, data={"a": "b"})
        assert answer.status_code == 400
        assert "file" in answer.json()["detail"]


def test_a_query_by_an_unrelated_image_returns_an_empty_list(
    server: Server, host: ImageHost
) -> None:
    server.upsert([host.url(f"seed/{seed}.png") for seed in range(4)])
    assert server.query(png(99)) == []


def test_results_are_sorted_by_similarity(server: Server, host: ImageHost) -> None:
    original = photo(1)
    blurred = encode(original.resize((24, 24)).resize((256, 256)), "JPEG", quality=40)
    urls = [host.add("blurred.jpg", blurred), host.add("same.png", encode(original))]
    server.upsert(urls)
    results = server.search(encode(original), min_similarity=-1)
    assert [result["url"] for result in results] == urls[::-1]
    similarities = [result["similarity"] for result in results]
    assert similarities == sorted(similarities, reverse=True)


def test_search_distinguishes_exact_copy_and_similar(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    results = server.search(png(1), min_similarity=-1)
    assert [result["match"] for result in results] == ["exact", "similar"]
    assert results[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert server.search(altered(png(1)))[0]["match"] == "copy"


def test_search_returns_all_that_a_page_needs(server: Server, host: ImageHost) -> None:
    [outcome] = server.upsert([{"url": host.url("seed/1.png"), "title": "Discs"}])
    answer = server.client.post("/api/search", files={"file": png(1)}).json()
    [result] = answer["results"]
    assert result["id"] == outcome["id"]
    assert (result["width"], result["height"], result["format"]) == (256, 256, "PNG")
    assert result["title"] == "Discs"
    assert server.client.get(result["thumbnail"]).headers["content-type"] == "image/jpeg"
    assert answer["encoder"] == "builtin"
    assert answer["next"] is None
    assert set(answer["took_ms"]) == {"decode", "embed", "search", "total"}


def test_search_by_url_as_json_and_as_a_form(server: Server, host: ImageHost) -> None:
    url = host.url("seed/1.png")
    server.upsert([url])
    for answer in (
        server.client.post("/api/search", json={"url": url}),
        server.client.post("/api/search", data={"url": url}),
    ):
        assert [result["url"] for result in answer.json()["results"]] == [url]


def test_search_respects_limit_and_threshold(server: Server, host: ImageHost) -> None:
    server.upsert([host.url(f"seed/{seed}.png") for seed in range(5)])
    assert len(server.search(png(1), min_similarity=-1, limit=3)) == 3
    assert len(server.search(png(1), min_similarity=-1)) == 5
    assert len(server.search(png(1))) == 1


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"like": "x", "url": "http://example.com"}, "like"),
        ({"url": "http://example.com", "limit": 0}, "limit"),
        ({"url": "http://example.com", "limit": 101}, "limit"),
        ({"url": "http://example.com", "min_similarity": 2}, "min_similarity"),
        ({"text": "- flurble"}, "something to exclude"),
        ({"text": "cat", "crop": "0,0,1,1"}, "crop"),
        ({"url": "http://example.com", "crop": "0,0,1"}, "crop: Value error, must be x,y"),
        ({"url": "http://example.com", "crop": {"x": 0, "y": 0, "width": 0, "height": 1}}, "crop"),
        ({"query": [{"weight": 2}]}, "give one of"),
        ({"query": [{"text": "cat", "weight": float("nan")}]}, "weight"),
        ({"text": "cat", "box": "0,0,1"}, "box"),
        ({"text": "cat", "box": [0, 50, 1, 40]}, "box"),
        ({"text": "cat", "taken_after": "yesterday"}, "taken_after"),
        ({"text": "cat", "colours": ["mauve"]}, "colours"),
        ({"text": "cat", "metadata": {"sku": [1]}}, "metadata"),
        ({"text": "cat\0", "tags": ["a"]}, "text"),
        ({"text": "cat", "tags": ["a\0"]}, "tags"),
        ({"cursor": "made up"}, "cursor"),
    ],
)
def test_an_invalid_search_names_the_field(
    shared_server: Server, fields: dict[str, Any], names: str
) -> None:
    answer = shared_server.client.post("/api/search", content=json.dumps(fields))
    assert answer.status_code == 422, answer.text
    assert names in answer.json()["detail"]


def test_an_unknown_form_field_is_named(shared_server: Server) -> None:
    answer = shared_server.client.post(
        "/api/search", files={"file": png(1)}, data={"colour": "red"}
    )
    assert (answer.status_code, answer.json()["detail"]) == (422, "colour: unknown field")
    answer = shared_server.client.post("/api/search", files={"picture": png(1)})
    assert (answer.status_code, "picture" in answer.json()["detail"]) == (422, True)


def test_a_query_url_that_cannot_be_fetched_is_a_422(server: Server, host: ImageHost) -> None:
    answer = server.client.post("/api/search", json={"url": host.url("status/404")})
    assert (answer.status_code, "404" in answer.json()["detail"]) == (422, True)


def test_uploads_are_indexed_served_and_deleted(server: Server) -> None:
    data = png(1)
    files = [("file", ("discs.png", data)), ("file", ("notes.txt", b"not an image"))]
    good, bad = server.client.post("/api/images", files=files).json()["results"]
    assert (good["status"], bad["status"], bad["url"]) == ("indexed", "failed", "notes.txt")
    [found] = server.search(altered(data))
    assert found["title"] == "discs.png"
    original = server.client.get(found["url"])
    assert (original.content, original.headers["content-type"]) == (data, "image/png")
    assert server.client.delete(f"/api/images/{good['id']}").status_code == 204
    assert server.search(data) == []
    assert server.client.get(found["url"]).status_code == 404
    assert server.client.delete(f"/api/images/{good['id']}").status_code == 404


def test_an_upload_is_identified_by_its_bytes(server: Server) -> None:
    for name, status in (("a.png", "indexed"), ("b.png", "unchanged")):
        answer = server.client.post("/api/images", files={"file": (name, png(1))})
        assert answer.json()["results"][0]["status"] == status
    assert server.client.get("/api/images").json()["total"] == 1


def test_the_list_is_paged_newest_first(server: Server, host: ImageHost) -> None:
    urls = [host.url(f"seed/{seed}.png") for seed in range(5)]
    for url in urls:
        server.upsert([url])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = server.client.get("/api/images", params={"limit": 2, **cursor}).json()
        seen += [image["url"] for image in page["images"]]
        assert page["total"] == 5
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == urls[::-1]


@pytest.mark.parametrize("params", [{"cursor": "x"}, {"limit": 0}, {"limit": "x"}, {"page": 2}])
def test_an_invalid_list_request_is_a_422(shared_server: Server, params: dict[str, Any]) -> None:
    assert shared_server.client.get("/api/images", params=params).status_code == 422


def test_an_unknown_image_is_a_404(shared_server: Server) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    for path in (f"/api/images/{unknown}", f"/images/{unknown}", f"/images/{unknown}/thumbnail"):
        assert shared_server.client.get(path).status_code == 404
    assert shared_server.client.get("/api/images/nonsense").status_code == 404


def test_original_redirects_to_the_url(server: Server, host: ImageHost) -> None:
    url = host.url("seed/1.png")
    [outcome] = server.upsert([url])
    answer = server.client.get(f"/images/{outcome['id']}/original")
    assert (answer.status_code, answer.headers["location"]) == (307, url)


def test_a_thumbnail_is_cached_until_the_image_changes(server: Server, host: ImageHost) -> None:
    url = host.add("changing.png", png(1))
    [outcome] = server.upsert([url])
    path = f"/images/{outcome['id']}/thumbnail"
    tag = server.client.get(path).headers["etag"]
    assert server.client.get(path, headers={"if-none-match": tag}).status_code == 304
    host.add("changing.png", png(2))
    assert server.upsert([url])[0]["status"] == "updated"
    assert server.client.get(path, headers={"if-none-match": tag}).status_code == 200


def test_two_clients_posting_the_same_urls_create_each_image_once(
    server: Server, host: ImageHost
) -> None:
    urls = [host.url(f"seed/{seed}.png") for seed in range(50)]

    async def post_twice() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:
            body = {"images": urls}
            return await asyncio.gather(*(client.post("/api/upsert", json=body) for _ in range(2)))

    answers = [answer.json()["results"] for answer in asyncio.run(post_twice())]
    statuses = [{a["status"], b["status"]} for a, b in zip(*answers, strict=True)]
    assert statuses == [{"indexed", "unchanged"}] * 50
    stats = server.client.get("/api/stats").json()
    assert (stats["images"], stats["vectors"]) == (50, 50)
    assert stats["encoder"]["images_embedded"] == 50


def test_a_request_runs_a_fixed_number_of_statements(
    settings: Settings, loop: Loop, encoder: Encoder, host: ImageHost
) -> None:
    with counting(settings, loop, encoder) as (server, statements):
        server.upsert([host.url("seed/1.png")])
        # The image at the URL, images of the same bytes, the row's lock, the image, its vector; and
        # whether it is in the trash, twice: before, and once the row is locked.
        assert len(statements) == 7
        statements.clear()
        server.query(png(1))
        # How many there are. What is nearest goes past SQLAlchemy: test_lookup.py counts it.
        assert len(statements) == 1
        statements.clear()
        server.upsert([host.url("seed/1.png")])
        # The image at the URL, images of the same bytes, the bytes their vectors came from; and
        # whether it is in the trash.
        assert len(statements) == 4


def test_stats_and_health(server: Server) -> None:
    stats = server.client.get("/api/stats").json()
    assert (stats["images"], stats["encoder"]["dimensions"]) == (0, 512)
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"status": "ok", "provider": "cpu"}
