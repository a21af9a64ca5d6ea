"""Two images are compared: what is answered, by every way to name them, and by the page."""

import base64
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from app.problems import TooBusy
from app.search.searcher import MOST_SEARCHES
from app.web.rate_limits import DECODING_COST, cost_of
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode, photo
from tests.web.test_pages import Page, get
from tests.web.test_problems import check

SIZE = (480, 360)
IMAGE = photo(3, SIZE)


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server


def captioned(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((120, 270, 400, 330), "white")
    return image


def compare(server: Server, a: bytes, b: bytes) -> dict[str, Any]:
    answer = server.client.post("/api/compare", files={"a": a, "b": b})
    assert answer.status_code == 200, answer.text
    return answer.json()


ALTERED: dict[str, tuple[Callable[[Image.Image], Image.Image], dict[str, Any]]] = {
    "half": (lambda i: ImageOps.scale(i, 0.5), {"scale": 2.0, "edited": False}),
    "cropped": (lambda i: i.crop((100, 50, 400, 290)), {"image_overlap": 0.4167}),
    "mirrored": (ImageOps.mirror, {"mirrored": True}),
    "turned": (lambda i: i.transpose(Image.Transpose.ROTATE_90), {"rotation": 90.0}),
    "captioned": (captioned, {"edited": True, "query_overlap": 1.0}),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_image_is_a_copy_and_the_matrix_maps_a_to_b(server: Server, name: str) -> None:
    alter, expected = ALTERED[name]
    given = alter(IMAGE)
    answer = compare(server, encode(given), encode(IMAGE))
    assert (answer["match"], answer["too_plain"]) == ("copy", False)
    assert (answer["a"]["width"], answer["a"]["height"]) == given.size
    alignment = answer["alignment"]
    for field, value in expected.items():
        assert alignment[field] == pytest.approx(value, rel=0.04), field
    # The other way round, the matrix is the inverse.
    back = compare(server, encode(IMAGE), encode(given))
    assert back["match"] == "copy"
    there, here = (np.array([*each["alignment"]["matrix"], [0, 0, 1]]) for each in (answer, back))
    assert np.allclose(here @ there, np.eye(3), atol=[[0.02, 0.02, 4], [0.02, 0.02, 4], [0, 0, 0]])
    assert back["similarity"] == pytest.approx(answer["similarity"], abs=0.001)


def test_the_same_bytes_are_exact_and_lie_where_they_are(server: Server) -> None:
    answer = compare(server, encode(IMAGE), encode(IMAGE))
    assert (answer["match"], answer["similarity"]) == ("exact", 1.0)
    assert answer["a"] == answer["b"]
    assert answer["alignment"]["matrix"] == [[1, 0, 0], [0, 1, 0]]


def test_strangers_are_similar_at_most(server: Server) -> None:
    answer = compare(server, encode(photo(4, SIZE)), encode(IMAGE))
    assert (answer["match"], answer["alignment"], answer["too_plain"]) == ("similar", None, False)
    assert -1 <= answer["similarity"] < 0.95


def test_a_plain_image_says_so_and_is_only_its_own_match(server: Server) -> None:
    plain = encode(Image.new("RGB", SIZE, "white"))
    answer = compare(server, plain, encode(Image.new("RGB", (300, 200), "white")))
    assert (answer["match"], answer["too_plain"]) == ("similar", True)
    assert answer["a"]["too_plain"]
    assert compare(server, plain, plain)["match"] == "exact"


def test_an_image_is_named_by_file_url_id_or_upload(
    server: Server, host: ImageHost, loop: Loop
) -> None:
    data = encode(IMAGE)
    url = host.add("original.png", data)
    [outcome] = server.upsert([url])
    half = encode(ImageOps.scale(IMAGE, 0.5))
    upload = str(loop.run(server.lookalike.uploads.keep(half)))
    by_file = compare(server, half, data)
    assert by_file["match"] == "copy"

    def by_form(**fields: Any) -> httpx.Response:
        files = {name: (None, value) for name, value in fields.items() if isinstance(value, str)}
        files |= {name: value for name, value in fields.items() if isinstance(value, bytes)}
        return server.client.post("/api/compare", files=files)

    def by_json(a: Any, b: Any) -> httpx.Response:
        return server.client.post("/api/compare", json={"a": a, "b": b})

    small_url = host.add("half.png", half)
    for answer in (
        by_form(a=half, b=url),
        by_form(a=half, b=outcome["id"]),
        by_form(a=small_url, b=data),
        by_json({"url": small_url}, {"url": url}),
        by_json({"upload": upload}, {"id": outcome["id"]}),
        by_json(small_url, outcome["id"]),
    ):
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["match"], found["a"], found["b"]) == ("copy", by_file["a"], by_file["b"])
        assert found["similarity"] == pytest.approx(by_file["similarity"], abs=0.002)
        assert found["alignment"]["scale"] == pytest.approx(2, rel=0.01)
    assert by_json({"id": outcome["id"]}, {"url": url}).json()["match"] == "exact"


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({}, 422, "b: Field required"),
        ({"a": "nonsense", "b": "nonsense"}, 422, "a: Value error, must be a URL"),
        ({"a": {"id": str(UUID(int=1))}, "b": {"id": str(UUID(int=1))}}, 404, "There is no image"),
        ({"a": {"upload": str(UUID(int=1))}, "b": {"id": str(UUID(int=1))}}, 404, ""),
        ({"a": {}, "b": {}}, 422, "give one of url, id and upload"),
        ({"a": {"url": "http://10.0.0.1/"}, "b": {"url": "http://10.0.0.1/"}}, 422, "FETCH_ALLOW"),
        ({"a": "http:x", "b": "http:x", "c": "x"}, 422, "c: unknown field"),
    ],
)
def test_what_cannot_be_compared_is_a_problem(
    server: Server, fields: dict[str, Any], status: int, detail: str
) -> None:
    answer = server.client.post("/api/compare", json=fields)
    check(answer, status)
    assert detail in answer.json()["detail"]


def test_forms_that_name_no_two_images_are_refused(server: Server) -> None:
    def post(**files: Any) -> httpx.Response:
        return server.client.post("/api/compare", files=files)

    one = encode(IMAGE)
    for answer, status, detail in (
        (post(a=one), 400, "b: send a file"),
        (post(a=one, b=(None, " ")), 400, "b: send a file"),
        (post(a=one, b=b"words"), 415, "not an image"),
        (post(a=one, b=(None, str(UUID(int=1)))), 404, "There is no image"),
        (post(a=one, b=(None, "http:\0")), 422, "b: "),
        (post(a=one, b=one, file=one), 422, "file: unknown field"),
    ):
        check(answer, status)
        assert detail in answer.json()["detail"]


def test_a_comparison_takes_the_place_of_a_search(server: Server, loop: Loop) -> None:
    searcher = server.lookalike.searcher
    entered = 0

    async def fill() -> httpx.Response:
        nonlocal entered
        with searcher._places.taken():  # pyright: ignore[reportPrivateUsage]
            entered += 1
            return await fill() if entered < MOST_SEARCHES else await ask()

    async def ask() -> httpx.Response:
        one = encode(IMAGE)
        async with httpx.AsyncClient(base_url=server.address, trust_env=False) as client:
            return await client.post("/api/compare", files={"a": one, "b": one}, timeout=60)

    answer = loop.run(fill())
    check(answer, TooBusy.status)
    assert "retry-after" in answer.headers


def test_a_comparison_costs_what_decoding_costs() -> None:
    scope = {"type": "http", "method": "POST", "path": "/api/compare", "query_string": b""}
    assert cost_of(scope) == DECODING_COST
    page = {"type": "http", "method": "GET", "path": "/compare", "query_string": b"a=1&b=2"}
    assert cost_of(page) == DECODING_COST
    assert cost_of({**page, "query_string": b""}) == 1


def indexed(server: Server, host: ImageHost, image: Image.Image, name: str) -> str:
    [outcome] = server.upsert([host.add(name, encode(image))])
    return outcome["id"]


def test_the_page_shows_both_images_and_what_they_share(server: Server, host: ImageHost) -> None:
    whole = indexed(server, host, IMAGE, "whole.png")
    crop = indexed(server, host, IMAGE.crop((100, 50, 400, 290)), "crop.png")
    page = get(server, f"/compare?a={crop}&b={whole}")
    for words in ("all of the first, 42% of the second", "Scale the same", "Mirrored no"):
        assert words in page.words
    assert {f"/images/{i}/thumbnail" for i in (crop, whole)} == set(page.values("image", "href"))
    assert f"/images/{crop}" in page.values("a", "href")
    # Outlined where it lies, on both.
    first, second = (
        np.array([[float(n) for n in p.split(",")] for p in (points or "").split()])
        for points in page.values("polygon", "points")[:2]
    )
    assert np.allclose(sorted(first.tolist()), [[0, 0], [0, 240], [300, 0], [300, 240]], atol=4)
    assert np.allclose(second.min(axis=0), [100, 50], atol=4)
    assert np.allclose(second.max(axis=0), [400, 290], atol=4)
    [transform] = [t for t in page.values("image", "transform") if t]
    numbers = [float(n) for n in re.findall(r"[-\d.e]+", transform.removeprefix("matrix"))]
    assert np.allclose(numbers, [1, 0, 0, 1, 100, 50], atol=3)


def test_differing_regions_are_marked_on_both(server: Server, host: ImageHost) -> None:
    edited = indexed(server, host, captioned(IMAGE), "edited.png")
    whole = indexed(server, host, IMAGE, "whole.png")
    page = get(server, f"/compare?a={edited}&b={whole}")
    assert "Differences one region" in page.words
    assert page.values("polygon", "class").count("differing") == 3


def test_the_page_compares_uploads_and_urls(server: Server, host: ImageHost, loop: Loop) -> None:
    whole = indexed(server, host, IMAGE, "whole.png")
    upload = loop.run(server.lookalike.uploads.keep(encode(ImageOps.mirror(IMAGE))))
    page = get(server, f"/compare?a={upload}&b={whole}")
    assert f"/uploads/{upload}" in page.values("image", "href")
    assert "Mirrored left to right" in page.words
    url = host.add("half.png", encode(ImageOps.scale(IMAGE, 0.5)))
    page = get(server, f"/compare?a={url}&b={whole}")
    [data] = {src for src in page.values("image", "href") if src and src.startswith("data:")}
    assert base64.b64decode(data.partition(",")[2]).startswith(b"\xff\xd8")
    assert "2 times larger in the second" in page.words


def test_strangers_have_no_views_but_side_by_side(server: Server, host: ImageHost) -> None:
    ids = [indexed(server, host, photo(seed, SIZE), f"{seed}.png") for seed in (5, 6)]
    page = get(server, f"/compare?a={ids[0]}&b={ids[1]}")
    assert "Nothing proves that they are the same image." in page.words
    assert page.values("input", "type") == []
    assert len(page.values("image", "href")) == 2


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 200, "First image"),
        ("a=&b=", 200, "First image"),
        (f"a={UUID(int=1)}&b={UUID(int=1)}", 404, "expired"),
        ("a=nonsense&b=nonsense", 422, "a: Value error, must be a URL"),
    ],
)
def test_a_page_without_two_images_asks_for_them(
    server: Server, query: str, status: int, words: str
) -> None:
    answer = server.client.get(f"/compare?{query}", headers={"accept": "text/html"})
    assert answer.status_code == status
    page = Page(answer.text)
    assert words in page.words
    assert {"a", "b"} <= set(page.values("input", "name"))


def test_results_lead_to_the_page(server: Server, host: ImageHost) -> None:
    # No other test has these.
    image = photo(40, SIZE)
    half = ImageOps.scale(image, 0.5)
    whole = indexed(server, host, image, "40.png")
    copy = indexed(server, host, half, "half-40.png")
    answer = server.client.post("/", files={"file": ("a.jpg", encode(image, "JPEG"))})
    upload = answer.headers["location"].partition("upload=")[2]
    url = host.add("query.jpg", encode(half, "JPEG"))
    expected = {
        answer.headers["location"]: upload,
        f"/?url={url}": url,
        f"/?text={copy}": copy,
        f"/images/{copy}": copy,
        "/duplicates": None,
    }
    for path, query in expected.items():
        links = [link or "" for link in get(server, path).values("a", "href")]
        comparing = [link for link in links if link.startswith("/compare?")]
        assert comparing, path
        if query:
            assert {"a": query, "b": whole} in [dict(httpx.URL(link).params) for link in comparing]
        assert get(server, comparing[0]).values("image", "href")
