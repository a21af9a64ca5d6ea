"""How much each image of a search counts: the query image and those marked in the results."""

from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.web.shown import Shown, submitted
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.web.test_problems import check

A, B, C = (f"{n}0000000-0000-5000-8000-000000000000" for n in "abc")


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    return [row["id"] for row in server.upsert([host.url(f"seed/{n}.png") for n in range(8)])]


def similarities(server: Server, **wanted: Any) -> dict[str, float]:
    answer = server.client.post("/api/search", json=wanted)
    assert answer.status_code == 200, answer.text
    return {hit["id"]: hit["similarity"] for hit in answer.json()["results"]}


def test_a_mark_counts_as_much_as_its_weight(server: Server, ids: list[str]) -> None:
    plain = similarities(server, like=ids[:2])
    assert similarities(server, like=ids[:2], weights={ids[0]: 1}) == plain
    # Without a query, the sum of what is marked is searched by.
    heavy = similarities(server, like=ids[:2], weights={ids[0]: 5})
    terms = [{"id": ids[0], "weight": 5}, {"id": ids[1], "weight": 1}]
    assert heavy == pytest.approx(similarities(server, query=terms), abs=2e-4)
    assert heavy != pytest.approx(plain, abs=2e-4)
    assert similarities(server, like=ids[:2], weights={ids[0].upper(): 5}) == heavy
    form = server.client.post(
        "/api/search", data={"like": ids[:2], "weights": [f"{ids[0].upper()}=5"]}
    )
    assert {hit["id"]: hit["similarity"] for hit in form.json()["results"]} == heavy


def test_the_query_image_counts_as_much_as_its_weight(
    server: Server, ids: list[str], host: ImageHost
) -> None:
    url = host.url("seed/1.png")
    terms = [{"url": url, "weight": 2.5}, {"id": ids[3], "weight": -1}]
    asked = similarities(server, url=url, text=f"- {ids[3]}", weights={url: 2.5})
    assert asked == similarities(server, query=terms)
    assert asked != similarities(server, url=url, text=f"- {ids[3]}")


@pytest.mark.parametrize("weights", [{A: 2}, {"": 1}, [A], ["=2"], {A: 1e9}, {A: "x"}])
def test_weights_of_nothing_are_a_problem(server: Server, ids: list[str], weights: Any) -> None:
    document = check(
        server.client.post("/api/search", json={"like": ids[:1], "weights": weights}), 422
    )
    assert "weights" in document["detail"]


def test_the_url_of_a_search_keeps_the_weights_of_its_parts() -> None:
    fields = [("upload", A), ("text", "snow"), ("like", B), ("unlike", C)]
    form = submitted([*fields, ("weights", f"{A}=2"), ("weights", f"{B}=1"), ("weights", f"{C}=3")])
    shown = Shown(_fields(form.url()))
    assert [shown.weight_of(name) for name in (A, B, C)] == [2, 1, 3]
    # Of what is gone, and of what is left alone, none is kept.
    assert "weights" not in shown.url(upload="")[1:].partition(C)[0]
    assert _fields(shown.url_without("unlike", C)).count(("weights", f"{A}=2")) == 1
    assert "weights" not in shown.url(text="", like="", unlike="")


def test_a_mark_changes_sides_with_its_weight() -> None:
    turned = submitted(
        [("like", A), ("unlike", B), ("weights", f"{A}=-2"), ("weights", f"{B}=-0.5")]
    )
    assert dict(_fields(turned.url())) == {"unlike": A, "like": B} | {"weights": f"{B}=0.5"}
    assert ("weights", f"{A}=2") in _fields(turned.url())


def _fields(url: str) -> list[tuple[str, str]]:
    return parse_qsl(url.partition("?")[2])
