"""What is called a copy, how it lies on its original, and in which order results come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

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


def page_with(picture: Image.Image, seed: int) -> Image.Image:
    """A photo of something else with a small picture on it."""
    page = photo(seed, (960, 720))
    page.paste(picture.resize((336, 252)), (600, 30))
    return page


@dataclass(frozen=True)
class Stock:
    """What is indexed: photos, a file with the bytes of photo 1, its copies, and a page."""

    urls: list[str]
    same: str
    copies: list[str]
    page: str

    @property
    def all(self) -> list[str]:
        return [*self.urls, self.same, *self.copies, self.page]


@pytest.fixture
def stock(shared_server: Server, host: ImageHost, photos: list[Image.Image]) -> Stock:
    """Indexed by the first test that needs it."""
    copies = [alter(photos[1]) for alter, _ in ALTERATIONS.values()]
    made = Stock(
        [host.add(f"{n}.png", encode(image)) for n, image in enumerate(photos)],
        host.add("same.png", encode(photos[1])),
        [host.add(f"copy-{n}.png", encode(image)) for n, image in enumerate(copies)],
        host.add("page.png", encode(page_with(photos[6], 40))),
    )
    if not shared_server.client.get("/api/images").json()["total"]:
        outcomes = shared_server.upsert(made.all)
        assert {outcome["status"] for outcome in outcomes} == {"indexed"}
    return made


def search(server: Server, data: bytes, **given: Any) -> dict[str, Any]:
    answer = server.client.post("/api/search", files={"file": data}, data=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_image_is_a_copy_and_says_how_it_lies(
    shared_server: Server, stock: Stock, photos: list[Image.Image], name: str
) -> None:
    alter, expected = ALTERATIONS[name]
    query = alter(photos[3])
    first, *others = search(shared_server, encode(query), min_similarity=-1)["results"]
    assert (first["url"], first["match"]) == (stock.urls[3], "copy")
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
    shared_server: Server, stock: Stock, photos: list[Image.Image]
) -> None:
    crop = encode(photos[2].crop((60, 40, 300, 220)))
    answer = search(shared_server, crop, min_similarity=0.9999)
    [hit] = answer["results"]
    assert (hit["url"], hit["match"]) == (stock.urls[2], "copy")
    assert hit["similarity"] < 0.9999
    assert (answer["next"], answer["notes"]) == (None, [])


def test_strangers_are_no_copies(shared_server: Server, stock: Stock) -> None:
    for seed in range(20, 24):
        hits = search(shared_server, encode(photo(seed, SIZE)), min_similarity=-1)["results"]
        assert {hit["match"] for hit in hits} == {"similar"}
        assert len(hits) == len(stock.all) - 1


def test_exact_comes_first_then_copies_then_the_rest(
    shared_server: Server, stock: Stock, photos: list[Image.Image]
) -> None:
    hits = search(shared_server, encode(photos[1]), min_similarity=-1)["results"]
    assert {hits[0]["url"], *(p["url"] for p in hits[0]["places"])} == {stock.urls[1], stock.same}
    number = len(stock.copies)
    assert {hit["url"] for hit in hits[1 : number + 1]} == set(stock.copies)
    matches = [hit["match"] for hit in hits]
    assert matches == ["exact", *["copy"] * number, *["similar"] * (len(stock.urls))]
    for match, expected in (("copy", 1 + number), ("exact", 1), ("scene", 1 + number)):
        found = search(shared_server, encode(photos[1]), min_similarity=-1, match=match)
        assert found["results"] == hits[:expected]
        assert found["next"] is None
    # By the id of an image, which is no result itself.
    asked = {"query": [{"id": hits[0]["id"]}], "match": "copy"}
    by_id = shared_server.client.post("/api/search", json=asked).json()["results"]
    assert {hit["url"] for hit in by_id} - {stock.urls[1], stock.same} == set(stock.copies)
    assert len(by_id) == 1 + number


def test_query_returns_verified_copies_if_asked(
    shared_server: Server, stock: Stock, photos: list[Image.Image]
) -> None:
    crop = encode(photos[5].crop((60, 40, 300, 220)))

    def query(data: bytes, **given: Any) -> Any:
        return shared_server.client.post("/api/query", files={"file": data}, data=given)

    assert query(crop, verified="true").json() == [stock.urls[5]]
    assert query(encode(photo(30, SIZE)), verified="true").json() == []
    # Without it, only similarities count, as ever.
    assert query(crop).json() == query(crop, verified="false").json()
    assert query(crop, verified="perhaps").status_code == 422


def test_a_plain_query_says_that_it_is_too_plain(shared_server: Server, stock: Stock) -> None:
    answer = search(shared_server, encode(Image.new("RGB", (300, 300), "white")), min_similarity=-1)
    assert {hit["match"] for hit in answer["results"]} == {"similar"}
    assert "too plain" in answer["notes"][0]


def test_only_a_whole_image_has_matches(shared_server: Server, stock: Stock) -> None:
    for asked in ({"text": "boat"}, {"like": [str(UUID(int=0))]}):
        for given in ({"match": "copy"}, {"sort": "changed"}):
            answer = shared_server.client.post("/api/search", json={**asked, **given})
            assert answer.status_code in (404, 422)
    crop = {"crop": "0,0,0.5,0.5"}
    hits = search(shared_server, encode(photo(0, SIZE)), **crop)["results"]
    assert {hit["match"] for hit in hits} == {None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("given", [{}, {"sort": "biggest"}, {"match": "copy"}, {"sort": "changed"}])
def test_pages_are_a_partition_with_what_is_proved_first(
    shared_server: Server,
    stock: Stock,
    photos: list[Image.Image],
    limit: int,
    given: dict[str, Any],
) -> None:
    asked = {"min_similarity": -1, "limit": limit, **given}
    answer = search(shared_server, encode(photos[1]), **asked)
    pages = [answer["results"]]
    while answer["next"]:
        answer = shared_server.client.post(
            "/api/search", json={"cursor": answer["next"], "limit": limit}
        ).json()
        pages.append(answer["results"])
    hits = [hit for page in pages for hit in page]
    found = [hit["url"] for hit in hits] + [p["url"] for hit in hits for p in hit["places"]]
    assert len(found) == len(set(found))
    expected = {*stock.copies, stock.urls[1], stock.same}
    assert set(found) == (expected if "match" in given else set(stock.all))
    # Whatever page they are on.
    assert {hit["url"] for hit in hits if hit["match"] == "copy"} == set(stock.copies)
    assert all((hit["alignment"] is not None) == (hit["match"] == "copy") for hit in hits)
    if "sort" not in given:
        order = {"exact": 0, "copy": 1, "similar": 2}
        ranks = [order[hit["match"]] for hit in hits]
        assert ranks == sorted(ranks)


def test_a_thorough_search_finds_pictures_within_the_query(
    shared_server: Server, stock: Stock, photos: list[Image.Image]
) -> None:
    page = page_with(photos[4], 42)
    hits = search(shared_server, encode(page), match="copy", thorough="true")["results"]
    assert [hit["url"] for hit in hits] == [stock.urls[4]]
    alignment = hits[0]["alignment"]
    # Where it is in the query.
    assert alignment["query_overlap"] == pytest.approx(336 * 252 / (960 * 720), rel=0.1)
    [(a, b, c), (d, e, f)] = alignment["matrix"]
    corners = [(a * x + b * y + c, d * x + e * y + f) for x, y in ((600, 30), (936, 282))]
    assert np.allclose(corners, [(0, 0), SIZE], atol=6)
    # A stranger has no parts of any.
    stranger = encode(photo(41, (960, 720)))
    assert search(shared_server, stranger, match="copy", thorough="true")["results"] == []
    refused = shared_server.client.post("/api/search", json={"text": "boat", "thorough": True})
    assert refused.status_code == 422


def test_a_thorough_search_by_an_indexed_image(shared_server: Server, stock: Stock) -> None:
    page = str(uuid5(NAMESPACE_URL, stock.page))
    asked = {"query": [{"id": page}], "match": "copy", "thorough": True}
    hits = shared_server.client.post("/api/search", json=asked).json()["results"]
    assert [hit["url"] for hit in hits] == [stock.urls[6]]
