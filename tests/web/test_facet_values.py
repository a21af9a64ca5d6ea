"""Values of facets by a part of them: rare ones too, which the list of facets leaves out."""

from typing import Any

import pytest

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.web.test_problems import check

RARE = 30


@pytest.fixture
def shop(server: Server, host: ImageHost) -> Server:
    """Thirty products, each with tags and metadata of its own, and some that they share."""
    server.upsert(
        [
            {
                "url": host.url(f"seed/{n}.png"),
                "tags": ["Boat", f"harbour {n:02}", *(["showboat"] if n < 3 else [])],
                "metadata": {"sku": f"A-{n:03}=x", "Brand": f"Brand {n % 2}", "price": n},
            }
            for n in range(RARE)
        ]
    )
    return server


def values(server: Server, **asked: Any) -> dict[str, int]:
    answer = server.client.get("/api/facets/values", params=asked)
    assert answer.status_code == 200, answer.text
    return {found["value"]: found["count"] for found in answer.json()["values"]}


def test_every_value_is_found_by_a_part_of_it(shop: Server) -> None:
    listed = shop.client.get("/api/facets").json()
    assert len(listed["tags"]) == 20
    for n in range(RARE):
        assert values(shop, facet="tags", q=f"R {n:02}") == {f"harbour {n:02}": 1}
        assert values(shop, facet="metadata", key="SKU", q=f"{n:03}=") == {f"a-{n:03}=x": 1}
    # Those that begin so come first, whatever their number.
    assert list(values(shop, facet="tags", q="sh")) == ["showboat"]
    assert list(values(shop, facet="tags", q="boat")) == ["boat", "showboat"]
    assert len(values(shop, facet="tags", limit=32)) == 32
    # What SQL takes for patterns is text here.
    assert values(shop, facet="tags", q="%") == values(shop, facet="tags", q="_") == {}
    assert values(shop, facet="metadata", key="br", q="") == {}


def test_values_are_counted_within_the_filters(shop: Server) -> None:
    assert values(shop, facet="tags", q="boat", tags="showboat") == {"boat": 3, "showboat": 3}
    assert values(shop, facet="metadata", key="brand", tags="showboat") == {
        "brand 0": 2,
        "brand 1": 1,
    }
    assert values(shop, facet="tags", q="harbour", metadata="price=28..") == {
        "harbour 28": 1,
        "harbour 29": 1,
    }
    # Of several formats one is enough, so that others can be added.
    assert values(shop, facet="formats", formats="jpeg") == {"png": RARE}


def test_each_key_of_metadata_has_its_frequent_values(shop: Server) -> None:
    found = [value["value"] for value in shop.client.get("/api/facets").json()["metadata"]]
    by_key = {key: sum(v.startswith(f"{key}=") for v in found) for key in ("sku", "brand", "price")}
    assert by_key == {"sku": 20, "brand": 2, "price": 20}


@pytest.mark.parametrize(
    "asked", [{}, {"facet": "faces"}, {"facet": "metadata"}, {"facet": "tags", "key": "a"}]
)
def test_what_is_no_facet_is_a_problem(server: Server, asked: dict[str, str]) -> None:
    check(server.client.get("/api/facets/values", params=asked), 422)
