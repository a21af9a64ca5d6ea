"""What is called a copy, how it lies on its original, and in which order results come."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import encode, photo

SIZE = (480, 360)
Altered = Callable[[Image.Image], Image.Image]


def captioned(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((0, 300, 480, 360), "white")
    return image


ALTERATIONS: dict[str, tuple[Altered, dict[str, Any]]] = {
    "half size": (lambda i: ImageOps.scale(i, 0.5), {"scale": 2.0}),
    "grey": (lambda i: i.convert("L").convert("RGB"), {"scale": 1.0}),
    "cropped": (lambda i: i.crop((100, 50, 400, 290)), {"image_overlap": 300 * 240 / (480 * 360)}),
    "mirrored": (ImageOps.mirror, {"mirrored": True}),
    "turned left": (lambda i: i.rotate(90, expand=True), {"rotation": 90.0}),
    "turned round": (lambda i: i.rotate(180), {"rotation": 180.0}),
    "captioned": (captioned, {"query_overlap": 1.0}),
}


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [photo(seed, SIZE) for seed in range(8)]


@pytest.fixture
def urls(server: Server, host: ImageHost, photos: list[Image.Image]) -> list[str]:
    urls = [host.add(f"{n}.png", encode(image)) for n, image in enumerate(photos)]
    server.upsert(urls)
    return urls


def search(server: Server, data: bytes, **given: Any) -> dict[str, Any]:
    answer = server.client.post("/api/search", files={"file": data}, data=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_image_is_a_copy_and_says_how_it_lies(
    server: Server, urls: list[str], photos: list[Image.Image], name: str
) -> None:
    alter, expected = ALTERATIONS[name]
    query = alter(photos[3])
    first, *others = search(server, encode(query), min_similarity=-1)["results"]
    assert (first["url"], first["match"]) == (urls[3], "copy")
    assert {hit["match"] for hit in others} == {"similar"}
    assert all(hit["alignment"] is None for hit in others)
    alignment = first["alignment"]
    for field, value in expected.items():
        found = abs(alignment[field]) if field == "rotation" else alignment[field]
        assert found == pytest.approx(value, rel=0.04), field
    assert alignment["inliers"] >= 5
    # The matrix maps the query's pixels to the image's: its corners to where they are.
    if name == "cropped":
        [(a, b, c), (d, e, f)] = alignment["matrix"]
        corners = [(a * x + b * y + c, d * x + e * y + f) for x, y in ((0, 0), (300, 240))]
        assert np.allclose(corners, [(100, 50), (400, 290)], atol=3)


def test_a_copy_is_a_result_whatever_its_similarity(
    server: Server, urls: list[str], photos: list[Image.Image]
) -> None:
    crop = encode(photos[2].crop((60, 40, 300, 220)))
    answer = search(server, crop, min_similarity=0.9999)
    [hit] = answer["results"]
    assert (hit["url"], hit["match"]) == (urls[2], "copy")
    assert hit["similarity"] < 0.9999
    assert (answer["next"], answer["notes"]) == (None, [])


def test_strangers_are_no_copies(server: Server, urls: list[str]) -> None:
    for seed in range(20, 24):
        hits = search(server, encode(photo(seed, SIZE)), min_similarity=-1)["results"]
        assert {hit["match"] for hit in hits} == {"similar"}
        assert len(hits) == len(urls)


def test_exact_comes_first_then_copies_then_the_rest(
    server: Server, host: ImageHost, urls: list[str], photos: list[Image.Image]
) -> None:
    mirrored = host.add("m.png", encode(ImageOps.mirror(photos[0])))
    crop = host.add("c.png", encode(photos[0].crop((120, 90, 360, 270))))
    server.upsert([mirrored, crop])
    hits = search(server, encode(photos[0]), min_similarity=-1)["results"]
    assert (hits[0]["url"], hits[0]["match"]) == (urls[0], "exact")
    assert {hit["url"] for hit in hits[1:3]} == {mirrored, crop}
    assert [hit["match"] for hit in hits] == ["exact", "copy", "copy"] + ["similar"] * 7
    for match, expected in (("copy", 3), ("exact", 1), ("scene", 3)):
        found = search(server, encode(photos[0]), min_similarity=-1, match=match)
        assert found["results"] == hits[:expected]
        assert found["next"] is None
    # By the id of the image, which is no result itself.
    by_id = server.client.post(
        "/api/search", json={"query": [{"id": hits[0]["id"]}], "match": "copy"}
    ).json()["results"]
    assert {hit["url"] for hit in by_id} == {mirrored, crop}


def test_query_returns_verified_copies_if_asked(
    server: Server, urls: list[str], photos: list[Image.Image]
) -> None:
    crop = encode(photos[5].crop((60, 40, 300, 220)))

    def query(data: bytes, **given: Any) -> Any:
        return server.client.post("/api/query", files={"file": data}, data=given)

    assert query(crop, verified="true").json() == [urls[5]]
    assert query(encode(photo(30, SIZE)), verified="true").json() == []
    # Without it, only similarities count, as ever.
    assert query(crop).json() == query(crop, verified="false").json()
    assert query(crop, verified="perhaps").status_code == 422


def test_a_plain_query_says_that_it_is_too_plain(server: Server, urls: list[str]) -> None:
    answer = search(server, encode(Image.new("RGB", (300, 300), "white")), min_similarity=-1)
    assert {hit["match"] for hit in answer["results"]} == {"similar"}
    assert "too plain" in answer["notes"][0]


def test_only_a_whole_image_has_matches(server: Server, urls: list[str]) -> None:
    for asked in ({"text": "boat"}, {"like": [str(UUID(int=0))]}):
        for given in ({"match": "copy"}, {"sort": "changed"}):
            answer = server.client.post("/api/search", json={**asked, **given})
            assert answer.status_code in (404, 422)
    crop = {"crop": "0,0,0.5,0.5"}
    hits = search(server, encode(photo(0, SIZE)), **crop)["results"]
    assert {hit["match"] for hit in hits} == {None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("given", [{}, {"sort": "biggest"}, {"match": "copy"}, {"sort": "changed"}])
def test_pages_are_a_partition_with_what_is_proved_first(
    server: Server,
    host: ImageHost,
    urls: list[str],
    photos: list[Image.Image],
    limit: int,
    given: dict[str, Any],
) -> None:
    copies = [
        host.add(f"c{n}.png", encode(alter(photos[1])))
        for n, (alter, _) in enumerate(ALTERATIONS.values())
    ]
    same = host.add("same.png", encode(photos[1]))
    server.upsert([*copies, same])
    asked = {"min_similarity": -1, "limit": limit, **given}
    answer = search(server, encode(photos[1]), **asked)
    pages = [answer["results"]]
    while answer["next"]:
        answer = server.client.post(
            "/api/search", json={"cursor": answer["next"], "limit": limit}
        ).json()
        pages.append(answer["results"])
    hits = [hit for page in pages for hit in page]
    found = [hit["url"] for hit in hits] + [p["url"] for hit in hits for p in hit["places"]]
    assert len(found) == len(set(found))
    expected = {*copies, urls[1], same} | ({*urls} if "match" not in given else set())
    assert set(found) == expected
    # Whatever page they are on.
    assert {hit["url"] for hit in hits if hit["match"] == "copy"} == set(copies)
    assert all((hit["alignment"] is not None) == (hit["match"] == "copy") for hit in hits)
    if "sort" not in given:
        order = {"exact": 0, "copy": 1, "similar": 2}
        ranks = [order[hit["match"]] for hit in hits]
        assert ranks == sorted(ranks)
