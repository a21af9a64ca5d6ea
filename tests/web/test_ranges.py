"""Numbers among the metadata of images: kept as numbers, and filtered by ranges."""

from typing import Any

import pytest

from tests.conftest import Server
from tests.image_host import ImageHost

PRICES: list[Any] = [5, 10, "12.50", 20.0, "00015", -3, "15 EUR", 1e15]


@pytest.fixture
def priced(server: Server, host: ImageHost) -> Server:
    server.upsert(
        [
            {"url": host.url(f"seed/{n}.png"), "title": f"n{n}", "metadata": {"price": price}}
            for n, price in enumerate(PRICES)
        ]
    )
    server.upsert([{"url": host.url("seed/20.png"), "title": "a boat"}])
    return server


def boat(server: Server) -> str:
    [image] = server.client.get("/api/images?q=boat").json()["images"]
    return image["id"]


def found(server: Server, wanted: str) -> list[str]:
    # The image that is searched by is not among the results.
    given = {"like": boat(server), "metadata": f"price={wanted}"}
    results = server.client.post("/api/search", data=given).json()["results"]
    return sorted(hit["title"] for hit in results)


@pytest.mark.parametrize(
    ("wanted", "titles"),
    [
        ("10..20", ["n1", "n2", "n3"]),
        ("10..", ["n1", "n2", "n3", "n7"]),
        ("..5", ["n0", "n5"]),
        ("-3..-3", ["n5"]),
        ("20..10", []),
        ("12.5..12.5", ["n2"]),
        # What is no number in its plain form is text, and equal to itself only.
        ("00015", ["n4"]),
        ("15", []),
        ("10", ["n1"]),
    ],
)
def test_a_range_has_the_plain_numbers_within_it(
    priced: Server, wanted: str, titles: list[str]
) -> None:
    assert found(priced, wanted) == titles


def test_ranges_go_on_in_the_next_page_and_in_facets(priced: Server) -> None:
    given = {"like": boat(priced), "metadata": ["price=5..20"], "limit": "2"}
    first = priced.client.post("/api/search", data=given).json()
    second = priced.client.post("/api/search", data={"cursor": first["next"]}).json()
    assert "results" in second, second
    titles = [hit["title"] for hit in (*first["results"], *second["results"])]
    assert sorted(titles) == ["n0", "n1", "n2", "n3"]
    facets = priced.client.get("/api/facets?metadata=price=5..20").json()
    assert facets["total"] == 4
    body = {"like": [boat(priced)], "metadata": {"price": "..0"}}
    assert len(priced.client.post("/api/search", json=body).json()["results"]) == 1


def test_cells_of_a_table_that_are_plain_numbers_become_numbers(
    server: Server, host: ImageHost
) -> None:
    lines = ["url,metadata.price,metadata.sku,metadata.version"]
    lines += [f"{host.url('seed/1.png')},9.5,00123,1.10"]
    lines += [f"{host.url('seed/2.png')},12,{'9' * 30},nan"]
    answer = server.client.post(
        "/api/upsert", content="\n".join(lines), headers={"content-type": "text/csv"}
    )
    server.done(answer.json()["id"])
    images = server.client.get("/api/images").json()["images"]
    assert sorted((image["metadata"] for image in images), key=lambda m: m["price"]) == [
        {"price": 9.5, "sku": "00123", "version": "1.10"},
        {"price": 12, "sku": "9" * 30, "version": "nan"},
    ]


def test_the_form_of_the_filters_makes_ranges(priced: Server) -> None:
    page = priced.client.get("/?panel=filters").text
    assert 'name="from:price"' not in page  # There are texts among the values.
    page = priced.client.get("/?panel=filters&metadata=price=5..20").text
    assert 'name="from:price" value="5"' in page
    sent = {"text": "n", "from:price": "5", "to:price": "", "metadata:sku=": "A1", "tags": ""}
    answer = priced.client.post("/", data=sent)
    assert answer.headers["location"] == "/?metadata=sku%3DA1&metadata=price%3D5..&text=n"
