"""`/api/query` finds what a search by the image finds, and does no more than that takes."""

from typing import Any

import pytest

from app.encoding.encoder import Encoder
from app.lookalike import Lookalike
from app.pictures import decoding
from app.pictures.decoding import Picture
from app.search.query import Query, Term
from app.store import near_urls, row_counts
from app.store.images import Entry
from app.web import search_api
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.round_trips import round_trips
from tests.samples import altered, cosine, encode, photo, png


@pytest.fixture
def indexed(lookalike: Lookalike, loop: Loop, host: ImageHost) -> Lookalike:
    urls = [host.url(f"seed/{seed}.png") for seed in range(12)]
    # The same file at several URLs, and the same image as another file.
    urls += [host.add(f"again-{number}.png", png(2)) for number in range(3)]
    urls += [host.add("other.jpg", altered(png(2)))]
    loop.run(lookalike.indexer.upsert_urls([Entry(url) for url in urls]))
    loop.run(lookalike.indexer.upsert_upload(png(2), title="sent"))
    return lookalike


def found_by_search(lookalike: Lookalike, loop: Loop, data: bytes, above: float) -> list[Any]:
    query = Query([Term(data)], min_similarity=above, limit=100, verified=False)
    hits = loop.run(lookalike.searcher.search(query)).hits
    return [
        (image.url, pytest.approx(hit.similarity, abs=2e-3))
        for hit in hits
        for image in (hit.image, *hit.places)
    ]


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("above", [0.9, -1])
def test_it_finds_what_a_search_finds(
    indexed: Lookalike,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    by_index: bool,
    above: float,
) -> None:
    expected = found_by_search(indexed, loop, png(2), above)
    assert len(expected) == (6 if above == 0.9 else 17)
    if by_index:
        monkeypatch.setattr(row_counts.RowCount, "known", lambda *_: False)
    limit = 17
    near = loop.run(indexed.lookup.find(png(2), above=above, limit=limit)).images
    assert sorted((i.url, i.similarity) for i in near) == sorted(expected)
    similarities = [image.similarity for image in near]
    assert similarities == sorted(similarities, reverse=True)
    files = [image.sha256 for image in near]
    assert files == sorted(files, key=files.index)


def test_a_scan_that_finds_too_few_is_followed_by_an_exact_one(
    indexed: Lookalike, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_counts.RowCount, "known", lambda *_: False)
    monkeypatch.setattr(row_counts.RowCount, "is_recent", True)
    with round_trips(indexed.database) as trips:
        assert len(loop.run(indexed.lookup.find(png(2), above=-1, limit=100)).images) == 17
    assert len(trips) == 2


def test_nothing_near_is_no_error(indexed: Lookalike, loop: Loop) -> None:
    assert loop.run(indexed.lookup.find(encode(photo(99)), above=0.99, limit=100)).images == []


def test_a_query_asks_the_database_once(
    indexed: Lookalike, server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than there are: a scan that finds too few is followed by another statement.
    monkeypatch.setattr(search_api, "QUERY_LIMIT", 5)
    for _ in range(2):
        with round_trips(indexed.database) as trips:
            assert host.url("seed/2.png") in server.query(png(2))
    assert len(trips) == 1


def test_a_query_makes_nothing_that_only_the_index_needs(
    indexed: Lookalike, server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a query needs none of this")

    for name in ("jpeg", "dhash", "dominant_colours", "is_too_plain", "named_tags"):
        monkeypatch.setattr(decoding, name, refuse)
    assert host.url("seed/2.png") in server.query(png(2))


def test_a_query_is_embedded_as_the_index_is(
    lookalike: Lookalike, loop: Loop, encoder: Encoder
) -> None:
    def embedded(picture: Picture) -> Any:
        return encoder.submit_image(picture.image).result()

    for seed in range(6):
        data = encode(photo(seed, (640, 427)), "JPEG", quality=90)
        _, query = loop.run(lookalike.decoder.look(data, embedded))
        _, stored = loop.run(lookalike.decoder.decode_and(data, embedded))
        assert cosine(query, stored) > 0.999


def test_how_long_the_stages_took_is_told(indexed: Lookalike, server: Server) -> None:
    answer = server.client.post("/api/query", files={"file": png(2)})
    stages = [stage.partition(";")[0] for stage in answer.headers["Server-Timing"].split(", ")]
    assert stages == ["decode", "embed", "search", "total"]


def test_the_parameter_is_what_pgvector_reads(indexed: Lookalike, loop: Loop) -> None:
    [image] = loop.run(indexed.lookup.find(png(5), above=0.999, limit=1)).images
    [vector] = loop.run(indexed.vectors.fetch([image.id])).values()
    table = indexed.vectors.table
    [same] = loop.run(near_urls.near_urls(indexed.database, table, vector, limit=1, above=0.999))
    assert (same.id, same.similarity) == (image.id, pytest.approx(1, abs=1e-5))
