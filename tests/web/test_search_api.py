"""Every kind of query, over HTTP; arithmetic is checked against numpy on the stored vectors."""

import asyncio
import base64
import json
import zlib
from collections.abc import Generator
from contextlib import closing
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from app.encoding.encoder import Encoder, Reading
from app.encoding.loading import Encoders
from app.lookalike import Lookalike, open_lookalike
from app.problems import FetchProblem
from app.search.query import Query, Term
from app.search.searcher import MOST_SEARCHES
from app.settings import Settings
from app.store.images import Entry
from app.store.vectors import NewVector
from app.web.server import create_app
from demo.__main__ import sample_photos
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, encode, photo, png


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    """The ids of eight indexed images."""
    outcomes = server.upsert([host.url(f"seed/{seed}.png") for seed in range(8)])
    return [outcome["id"] for outcome in outcomes]


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    answer = server.client.post("/api/search", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored(server: Server, loop: Loop, ids: list[str]) -> Any:
    """Return the stored vectors of these images, in this order."""
    found = loop.run(server.lookalike.vectors.fetch([UUID(i) for i in ids]))
    return np.array([found[UUID(i)] for i in ids])


def ranked(vectors: Any, query: Any, ids: list[str], left_out: set[str]) -> list[tuple[str, Any]]:
    """Return the expected results: ids with cosines, best match first."""
    query = query / np.linalg.norm(query)
    pairs = zip(ids, (vectors @ query).tolist(), strict=True)
    kept = [(i, pytest.approx(s, abs=2e-3)) for i, s in pairs if i not in left_out]
    return sorted(kept, key=lambda pair: -pair[1].expected)


def test_images_are_added_and_subtracted_with_weights(
    server: Server, loop: Loop, ids: list[str]
) -> None:
    vectors = stored(server, loop, ids)
    right = ranked(vectors, 2 * vectors[0] + vectors[1] - 0.5 * vectors[2], ids, set(ids[:3]))
    structured = [{"id": ids[0], "weight": 2}, {"id": ids[1]}, {"id": ids[2], "weight": -0.5}]
    for fields in ({"query": structured}, {"text": f"2:{ids[0]} + {ids[1]} - 0.5:{ids[2]}"}):
        answer = ask(server, **fields)
        assert [(r["id"], r["similarity"]) for r in answer["results"]] == right
        assert answer["min_similarity"] is None
        assert {r["match"] for r in answer["results"]} == {None}


def test_files_urls_and_ids_are_equivalent(
    server: Server, loop: Loop, ids: list[str], host: ImageHost
) -> None:
    vectors = stored(server, loop, ids)
    answer = server.client.post(
        "/api/search",
        files={"file": png(0)},
        data={"text": f"3:{host.url('seed/1.png')} - {ids[2]}"},
    ).json()
    right = ranked(vectors, vectors[0] + 3 * vectors[1] - vectors[2], ids, {ids[2]})
    assert [(r["id"], r["similarity"]) for r in answer["results"]] == right


def test_a_query_that_cancels_out_is_a_problem(server: Server, ids: list[str]) -> None:
    answer = server.client.post("/api/search", json={"text": f"{ids[0]} - {ids[0]}"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/docs#query-cancels")


def test_unknown_ids_are_a_404(server: Server, ids: list[str]) -> None:
    unknown = str(UUID(int=1))
    for fields in ({"text": unknown}, {"query": [{"id": unknown}]}, {"like": [unknown]}):
        assert server.client.post("/api/search", json=fields).status_code == 404
    # A marked image that was deleted meanwhile does not affect the others.
    assert ask(server, like=[unknown, ids[0]])["results"]


def test_marked_results_move_the_query_by_rocchio(
    server: Server, loop: Loop, ids: list[str]
) -> None:
    vectors = stored(server, loop, ids)
    answer = ask(server, text=ids[0], like=ids[1:3], unlike=[ids[3]])
    query = vectors[0] + 0.75 * vectors[1:3].mean(axis=0) - 0.15 * vectors[3]
    assert [(r["id"], r["similarity"]) for r in answer["results"]] == ranked(
        vectors, query, ids, set(ids[:4])
    )


def crops(image: Image.Image, number: int) -> list[bytes]:
    """Return crops of a photo, which make up one kind of image."""
    rng = np.random.default_rng(number)
    places = rng.uniform(0, 0.5, (number, 2))
    size = [side // 2 for side in image.size]
    return [
        encode(image.crop((x, y, x + size[0], y + size[1])))
        for x, y in ((int(a * image.width), int(b * image.height)) for a, b in places)
    ]


def test_rounds_of_feedback_raise_the_rank_of_the_wanted_kind(
    server: Server, host: ImageHost
) -> None:
    samples = sample_photos()
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
    photos = {name[:-4]: Image.open(samples[name]).convert("RGB") for name in names}
    kinds: dict[str, str] = {}
    for name, image in photos.items():
        urls = [host.add(f"{name}{n}.jpg", piece) for n, piece in enumerate(crops(image, 8))]
        kinds |= {outcome["id"]: name for outcome in server.upsert(urls)}
    # Half a cat and half a cup of coffee.
    query = photos["chelsea"].resize((400, 300))
    query.paste(photos["coffee"].resize((400, 300)).crop((200, 0, 400, 300)), (200, 0))

    def search(like: list[str], unlike: list[str]) -> list[str]:
        fields = {"like": like, "unlike": unlike, "min_similarity": "-1"}
        answer = server.client.post("/api/search", files={"file": encode(query)}, data=fields)
        return [result["id"] for result in answer.json()["results"]]

    def mean_rank(found: list[str]) -> float:
        return float(np.mean([place for place, i in enumerate(found) if kinds[i] == "coffee"]))

    like: list[str] = []
    unlike: list[str] = []
    ranks = [mean_rank(search(like, unlike))]
    for _ in range(3):
        found = search(like, unlike)
        like += [i for i in found if kinds[i] == "coffee"][:1]
        unlike += [i for i in found if kinds[i] != "coffee"][:1]
        ranks.append(mean_rank(search(like, unlike)))
    assert ranks[-1] < ranks[0]
    assert ranks == sorted(ranks, reverse=True)


def test_a_search_by_region_ignores_the_rest_of_the_image(server: Server, host: ImageHost) -> None:
    server.upsert([host.url(f"seed/{seed}.png") for seed in range(6)])
    page = Image.new("RGB", (1024, 512), "white")
    page.paste(photo(1).resize((512, 512)), (0, 0))
    page.paste(photo(4).resize((512, 512)), (512, 0))
    for crop, seed in (("0,0,0.5,1", 1), ("0.5,0,0.5,1", 4)):
        [best, *_] = server.search(encode(page), crop=crop)
        assert best["url"] == host.url(f"seed/{seed}.png")
        # A region is not a copy of the image that it is from.
        assert best["match"] is None
    [upload] = server.upsert([host.add("page.png", encode(page))])
    crop = {"x": 0.5, "y": 0, "width": 0.5, "height": 1}
    answer = ask(server, query=[{"id": upload["id"], "crop": crop}])
    assert answer["results"][0]["url"] == host.url("seed/4.png")


def test_the_threshold_applies_only_to_a_query_by_one_image(
    server: Server, ids: list[str], host: ImageHost
) -> None:
    alone = ask(server, url=host.url("seed/1.png"))
    assert (len(alone["results"]), alone["min_similarity"]) == (1, 0.9)
    more = ask(server, url=host.url("seed/1.png"), like=[ids[2]])
    assert (len(more["results"]), more["min_similarity"]) == (7, None)
    some = ask(server, like=[ids[2]], min_similarity=0.999)
    assert (len(some["results"]), some["min_similarity"]) == (0, 0.999)


class OneVector:
    """A model that embeds every image as the same vector, to let a test choose similarities."""

    name = fingerprint = "one-vector"
    precision = "fp32"
    dimensions = 4
    side = 32
    provider = "cpu"
    largest_batch = 16
    has_text = False

    def prepare(self, image: Image.Image) -> None:
        pass

    def embed_images(self, prepared: Any) -> Any:
        return np.tile(np.float32([1, 0, 0, 0]), (len(prepared), 1))

    def embed_texts(self, texts: Any) -> Any:
        raise NotImplementedError

    def read(self, text: str) -> Reading:
        return Reading(is_empty=True)


# Integers whose cosine with the query is, in floating point too, exactly 9 / 10 for the second.
AROUND_THE_THRESHOLD = {0.9045: [9, 3, 3, 0], 0.9: [9, 3, 3, 1], 0.8868: [9, 3, 3, 2]}


@pytest.fixture
def around_the_threshold(settings: Settings, loop: Loop, host: ImageHost) -> Generator[Server]:
    """A server with an image just above, one at and one just below a similarity of 0.90."""
    with (
        closing(Encoder(OneVector(), source="builtin")) as encoder,
        loop.entered(
            open_lookalike(settings, announce=lambda _: None, encoders=Encoders.single(encoder))
        ) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        server = Server(address, client, lookalike)
        urls = [host.url(f"seed/{seed}.png") for seed in range(len(AROUND_THE_THRESHOLD))]
        server.upsert(urls)
        loop.run(store_vectors(lookalike, urls, list(AROUND_THE_THRESHOLD.values())))
        yield server


async def store_vectors(lookalike: Lookalike, urls: list[str], vectors: list[list[int]]) -> None:
    """Replace the vectors of indexed images."""
    rows: list[NewVector] = []
    for url, vector in zip(urls, vectors, strict=True):
        image = await lookalike.catalog.find(Entry(url).id)
        assert image is not None
        entry = Entry(url).over(image)
        rows.append(NewVector(entry, image, image.sha256, np.array(vector, np.float32)))
    async with lookalike.database.begin() as connection:
        await lookalike.vectors.upsert(connection, rows)


def test_query_is_above_090_and_a_search_is_at_least_the_minimum(
    around_the_threshold: Server, host: ImageHost
) -> None:
    server, query = around_the_threshold, png(9)
    above, at = host.url("seed/0.png"), host.url("seed/1.png")
    assert server.query(query) == [above]
    for fields in ({"min_similarity": 0.9}, {}):
        results = server.search(query, **fields)
        assert [(r["url"], r["similarity"]) for r in results] == [(above, 0.9045), (at, 0.9)]
    everything = server.search(query, min_similarity=-1)
    assert [r["similarity"] for r in everything] == list(AROUND_THE_THRESHOLD)


DETAILS = [
    {"title": "Red boat", "description": "A harbour at sunset", "tags": ["sea"]},
    {"title": "Blue boats", "description": "Ships", "tags": ["sea", "holiday 2024"]},
    {"title": "A dog in the snow", "description": "", "tags": []},
]


def described(server: Server, host: ImageHost) -> list[str]:
    urls = [host.add(f"IMG_{n}-winter.png", png(n)) for n in range(3)]
    given = [{"url": url, **details} for url, details in zip(urls, DETAILS, strict=True)]
    return [outcome["id"] for outcome in server.upsert(given)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("boat", [0, 1]),
        ("boats at sunset", [0]),
        ("sea - red", [1]),
        ("snow", [2]),
        ("2024", [1]),
        ("winter", [0, 1, 2]),
        ('"in the snow"', [2]),
        ("submarine", []),
        ("'; DROP TABLE images; --", []),
        ("& | ! ( ) : * \\", []),
    ],
)
def test_without_a_text_tower_words_are_searched_in_titles_and_tags(
    silent: Server, host: ImageHost, text: str, found: list[int]
) -> None:
    ids = described(silent, host)
    answer = ask(silent, text=text)
    assert sorted(ids.index(r["id"]) for r in answer["results"]) == found
    assert all(r["matched"] == ["text"] for r in answer["results"])
    assert all(r["similarity"] is None for r in answer["results"])
    assert "embeds images only" in answer["notes"][0]
    assert silent.client.get("/api/stats").json()["images"] == 3


def test_a_text_that_cannot_be_subtracted_is_noted(silent: Server, host: ImageHost) -> None:
    ids = described(silent, host)
    answer = ask(silent, text=f"{ids[0]} - night")
    assert "no text was subtracted" in answer["notes"][0]
    assert len(answer["results"]) == 2


def test_a_threshold_does_not_apply_to_results_found_by_words(
    silent: Server, host: ImageHost
) -> None:
    ids = described(silent, host)
    answer = ask(silent, text="snow", min_similarity=0.9)
    assert [r["id"] for r in answer["results"]] == [ids[2]]


def test_words_and_an_image_are_ranked_together(server: Server, host: ImageHost) -> None:
    ids = described(server, host)
    answer = ask(server, text="boat", url=host.url("pictures/IMG_1-winter.png"))
    first = answer["results"][0]
    assert (first["id"], first["matched"]) == (ids[1], ["picture", "text"])
    assert {r["id"] for r in answer["results"]} == set(ids)
    assert [r["matched"] for r in answer["results"] if r["id"] == ids[2]] == [["picture"]]
    filtered = ask(server, text="boat", tags=["holiday 2024"])
    assert [r["id"] for r in filtered["results"]] == [ids[1]]


@pytest.fixture
def reader(reading: Lookalike, loop: Loop) -> Generator[Server]:
    with loop.serving(create_app(reading)) as address, client_of(address) as client:
        yield Server(address, client, reading)


def test_a_text_tower_ranks_images_and_adds_texts(
    reader: Server, loop: Loop, host: ImageHost
) -> None:
    ids = [o["id"] for o in reader.upsert([host.url(f"seed/{seed}.png") for seed in range(6)])]
    vectors = stored(reader, loop, ids)
    encoder = reader.lookalike.encoder
    red, snow = (loop.run(encoder.embed_text(text)) for text in ("a red cat", "the snow"))
    for text, query in (
        ("a red cat", red),
        ("2:a red cat - the snow", 2 * red - snow),
        (f"a red cat + {ids[0]}", red + vectors[0]),
    ):
        answer = ask(reader, text=text)
        named = {ids[0]} if ids[0] in text else set[str]()
        assert [(r["id"], r["similarity"]) for r in answer["results"]] == ranked(
            vectors, query, ids, named
        )
        assert (answer["notes"], answer["min_similarity"]) == ([], None)


def test_a_text_tower_and_words_are_ranked_together(reader: Server, host: ImageHost) -> None:
    ids = described(reader, host)
    results = ask(reader, text="snow")["results"]
    assert (results[0]["id"], results[0]["matched"]) == (ids[2], ["picture", "text"])
    assert {r["id"] for r in results} == set(ids)
    assert all(r["similarity"] is not None for r in results)


def test_words_that_the_encoder_does_not_know_are_named(reader: Server, host: ImageHost) -> None:
    ids = described(reader, host)
    answer = ask(reader, text="a red wug")
    assert answer["unknown_words"] == ["wug"]
    assert answer["notes"] == ["The encoder tiny does not know: wug."]
    assert len(answer["results"]) == 3
    page = ask(reader, text="a red wug", limit=1)
    assert ask(reader, cursor=page["next"])["unknown_words"] == ["wug"]
    assert ask(reader, text="a red cat")["unknown_words"] == []
    # Nothing is left for the encoder, but the words are still searched for.
    answer = ask(reader, text="harbour")
    assert answer["unknown_words"] == ["harbour"]
    assert "knows none of the words in “harbour”" in answer["notes"][0]
    assert [(r["id"], r["matched"], r["similarity"]) for r in answer["results"]] == [
        (ids[0], ["text"], None)
    ]
    # A text that cannot be subtracted leaves the rest as it is.
    answer = ask(reader, text=f"{ids[0]} - wug")
    assert "no text was subtracted" in answer["notes"][0]
    assert len(answer["results"]) == 2
    refused = reader.client.post("/api/search", json={"query": [{"text": "wug", "weight": -1}]})
    assert (refused.status_code, "something to exclude" in refused.text) == (422, True)


def test_a_text_that_is_too_long_is_truncated_with_a_note(reader: Server, host: ImageHost) -> None:
    reader.upsert([host.url("seed/1.png")])
    answer = ask(reader, text="a photo of the " * 30)
    assert "Only the beginning" in answer["notes"][0]
    assert len(answer["results"]) == 1


def test_pages_neither_repeat_nor_miss_while_the_index_grows(
    server: Server, ids: list[str], host: ImageHost
) -> None:
    fields = {"text": f"{ids[0]} + {ids[1]}", "limit": 2}
    answer = ask(server, **fields)
    seen = [r["id"] for r in answer["results"]]
    added = 20
    while answer["next"]:
        server.upsert([host.url(f"seed/{added}.png")])
        added += 1
        answer = ask(server, cursor=answer["next"], limit=2)
        seen += [r["id"] for r in answer["results"]]
    assert len(seen) == len(set(seen))
    assert set(ids[2:]) <= set(seen)


def test_pages_of_results_ranked_by_words_and_image(server: Server, host: ImageHost) -> None:
    ids = described(server, host)
    answer = ask(server, text="boat", url=host.url("pictures/IMG_1-winter.png"), limit=1)
    seen = [r["id"] for r in answer["results"]]
    server.upsert([{"url": host.url("seed/30.png"), "title": "boat boat boat"}])
    while answer["next"]:
        answer = ask(server, cursor=answer["next"], limit=1)
        seen += [r["id"] for r in answer["results"]]
    assert sorted(seen) == sorted(ids)


def test_whoever_deletes_some_of_each_page_sees_every_other_result(
    server: Server, host: ImageHost
) -> None:
    outcomes = server.upsert(
        [{"url": host.url(f"seed/{seed}.png"), "title": "zebra finch"} for seed in range(30)]
    )
    ids = {outcome["id"] for outcome in outcomes}
    for fields in ({"text": "zebra"}, {"text": "zebra", "url": host.url("seed/7.png")}):
        answer = ask(server, **fields, limit=5)
        seen = [r["id"] for r in answer["results"]]
        while answer["next"]:
            deleted = [i for i in seen[-5:] if i in ids][:2]
            server.client.delete("/api/images", params={"ids": ",".join(deleted)})
            answer = ask(server, cursor=answer["next"], limit=5)
            seen += [r["id"] for r in answer["results"]]
        assert len(seen) == len(set(seen))
        assert set(seen) == ids
        ids = {i["id"] for i in server.client.get("/api/images?limit=100").json()["images"]}


def test_the_cursors_of_an_older_version_are_refused(server: Server, ids: list[str]) -> None:
    older = [
        {"vector": None, "words": "boat", "before": "2026-01-01T00:00:00Z", "offset": 20},
        {"vector": None, "words": "boat", "before": "2026-01-01T00:00:00Z"},
        {"vector": None, "words": "boat", "shown": [ids[0]], "distance": 0.5},
        {"vector": None, "words": "boat", "left": "AAAA", "found": "p"},
        {"vector": None, "words": "boat", "left": "AAAAAAAAAA==", "found": "x"},
    ]
    for given in older:
        packed = zlib.compress(json.dumps(given).encode())
        cursor = base64.urlsafe_b64encode(packed).decode()
        answer = server.client.post("/api/search", json={"cursor": cursor})
        assert answer.status_code == 422
        assert answer.json()["detail"] == "cursor: not a cursor that this server issued."


def test_a_cursor_of_another_encoder_or_a_changed_cursor_is_refused(
    server: Server, reader: Server, ids: list[str], host: ImageHost
) -> None:
    reader.upsert([host.url(f"seed/{seed}.png") for seed in range(3)])
    theirs = ask(reader, text="a cat", limit=1)["next"]
    ours = ask(server, like=[ids[0]], limit=1)["next"]
    for cursor in (theirs, ours[:-9], ours[:20] + "A" * 20 + ours[40:], "x", "é"):
        answer = server.client.post("/api/search", json={"cursor": cursor})
        assert (answer.status_code, "cursor" in answer.json()["detail"]) == (422, True)


def test_identical_files_are_one_result_across_pages(
    server: Server, ids: list[str], host: ImageHost
) -> None:
    server.upsert([host.add(f"same{n}.png", png(3)) for n in range(4)])
    answer = ask(server, like=[ids[0]], limit=3)
    shas = [r["url"] for r in answer["results"]]
    while answer["next"]:
        answer = ask(server, cursor=answer["next"], limit=3)
        shas += [r["url"] for r in answer["results"]]
    assert len(shas) == 7


def test_slow_urls_leave_room_for_other_searches(
    server: Server, ids: list[str], host: ImageHost, loop: Loop
) -> None:
    host.open.clear()
    searcher = server.lookalike.searcher
    waiting = host.add("late.png", png(1)) + "?gate=1"

    async def run() -> int:
        slow = [
            asyncio.create_task(searcher.search(Query([Term(url=waiting)])))
            for _ in range(MOST_SEARCHES + 5)
        ]
        await asyncio.sleep(0)
        found = await searcher.search(Query([Term(png(2))]))
        host.open.set()
        done = await asyncio.gather(*slow, return_exceptions=True)
        assert not any(isinstance(outcome, FetchProblem) for outcome in done)
        return len(found.hits)

    assert loop.run(run()) == 1


def test_varied_results_differ_from_each_other(server: Server, host: ImageHost) -> None:
    for seed in (1, 2, 3):
        copies = [
            host.add(f"{seed}-{quality}.jpg", encode(photo(seed), "JPEG", quality=quality))
            for quality in (95, 80, 65, 50)
        ]
        server.upsert(copies)
    plain = ask(server, url=host.url("seed/1.png"), min_similarity=-1, limit=3)["results"]
    mixed = ask(server, url=host.url("seed/1.png"), min_similarity=-1, limit=3, diversity=0.9)
    kinds = {r["url"].rpartition("/")[2][0] for r in mixed["results"]}
    assert {r["url"].rpartition("/")[2][0] for r in plain} == {"1"}
    assert kinds == {"1", "2", "3"}
    assert mixed["next"] is None


def test_filters_over_http(server: Server, host: ImageHost) -> None:
    first, second, third = server.upsert(
        [
            {"url": host.url("seed/1.png"), "tags": ["Sea"], "metadata": {"sku": "A1", "price": 3}},
            {"url": host.add("b.jpg", altered(png(2))), "tags": ["sea", "boat"]},
            {"url": host.url("seed/3.png"), "metadata": {"sku": "A1"}},
        ]
    )
    for fields, found in (
        ({"tags": ["sea"]}, {first["id"], second["id"]}),
        ({"tags": ["sea", "boat"]}, {second["id"]}),
        ({"formats": ["JPEG"]}, {second["id"]}),
        ({"metadata": {"sku": "a1"}}, {first["id"], third["id"]}),
        ({"metadata": {"sku": "A1", "price": 3}}, {first["id"]}),
        ({"hosts": ["127.0.0.1"], "orientations": ["square"]}, {first["id"], third["id"]}),
        ({"min_width": 100_000}, set()),
    ):
        answer = ask(server, url=host.url("seed/5.png"), min_similarity=-1, **fields)
        assert {r["id"] for r in answer["results"]} >= found
        if "orientations" not in fields:
            assert {r["id"] for r in answer["results"]} == found
    form = [("min_similarity", (None, "-1")), ("tags", (None, "sea")), ("tags", (None, "boat"))]
    form += [("metadata", (None, "")), ("file", ("a.png", png(5)))]
    answer = server.client.post("/api/search", files=form)
    assert [r["id"] for r in answer.json()["results"]] == [second["id"]]
    facets = server.client.get("/api/facets", params={"metadata": "sku=A1"}).json()
    assert facets["total"] == 2
    assert facets["tags"] == [{"value": "sea", "count": 1}]
    answer = server.client.get("/api/facets", params={"metadata": "sku"})
    assert (answer.status_code, "metadata" in answer.json()["detail"]) == (422, True)
    # Later details take effect at once, and the vector stays the same.
    server.client.patch(
        f"/api/images/{third['id']}", json={"metadata": {"sku": "B"}, "tags": ["x"]}
    )
    assert [r["id"] for r in ask(server, like=[first["id"]], metadata={"sku": "B"})["results"]] == [
        third["id"]
    ]


def test_details_of_an_image(server: Server, host: ImageHost) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "Canon", "EOS 5D", "2020:05:01 12:00:00"
    exif[0x8825] = {1: "N", 2: (50.0, 30.0, 0.0), 3: "E", 4: (7.0, 15.0, 0.0)}
    image = Image.new("RGB", (300, 200), (20, 60, 200))
    [outcome] = server.upsert([host.add("a.jpg", encode(image, "JPEG", exif=exif.tobytes()))])
    details = server.client.get(f"/api/images/{outcome['id']}").json()
    assert details["taken_at"] == "2020-05-01T12:00:00Z"
    assert (details["camera"], details["metadata"]) == ("Canon EOS 5D", {})
    assert details["location"] == {"latitude": 50.5, "longitude": 7.25}
    assert [colour["name"] for colour in details["colours"]] == ["blue"]
    answer = ask(server, url=host.url("seed/1.png"), min_similarity=-1, box=[7, 50, 8, 51])
    assert [r["id"] for r in answer["results"]] == [outcome["id"]]
