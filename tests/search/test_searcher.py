import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from app.lookalike import Lookalike, open_lookalike
from app.problems import FetchTimedOut, InvalidRequest, NotAPicture, NotFound, TooBusy
from app.search.query import MOST_TEXTS, MOST_URLS, Query, Term
from app.search.searcher import MOST_FETCHING, MOST_SEARCHES, Searcher
from app.settings import Settings
from app.store.images import Entry
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import altered, encode, photo, png


@pytest.fixture
def indexed(lookalike: Lookalike, loop: Loop, host: ImageHost) -> Lookalike:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(6)]
    loop.run(lookalike.indexer.upsert_urls(entries))
    return lookalike


def test_a_search_returns_hits_and_the_nearest_below_the_threshold(
    indexed: Lookalike, loop: Loop
) -> None:
    search = indexed.searcher.search(Query([Term(png(2))], limit=4, min_similarity=0.9))
    results = loop.run(search)
    assert [hit.match for hit in results.hits] == ["exact"]
    assert len(results.below) == 3
    assert all((hit.similarity or 0) < 0.9 for hit in results.below)
    assert results.picture is not None


def test_a_search_by_an_indexed_image_excludes_the_image_itself(
    indexed: Lookalike, loop: Loop, host: ImageHost
) -> None:
    copy = Entry(host.add("copy.jpg", altered(png(2))))
    loop.run(indexed.indexer.upsert("web", copy))
    image = loop.run(indexed.catalog.find(Entry(host.url("seed/2.png")).id))
    assert image is not None
    results = loop.run(indexed.searcher.search(Query([Term(image=image.id)], limit=3)))
    assert [(hit.image.url, hit.match) for hit in results.hits] == [(copy.url, "copy")]
    assert len(results.below) == 2


def test_a_search_by_an_image_without_a_vector_raises_not_found(
    indexed: Lookalike, loop: Loop
) -> None:
    [image] = loop.run(indexed.catalog.newest(limit=1))

    async def remove_vector() -> None:
        async with indexed.database.begin() as connection:
            table = indexed.vectors.table
            await connection.execute(table.delete().where(table.c.node_id == str(image.id)))

    loop.run(remove_vector())
    with pytest.raises(NotFound, match="not embedded"):
        loop.run(indexed.searcher.search(Query([Term(image=image.id)], limit=3)))


def test_without_verification_only_the_same_bytes_are_a_match(
    indexed: Lookalike, loop: Loop, host: ImageHost
) -> None:
    query = Query([Term(encode(photo(3).transpose(0)))], limit=1, min_similarity=-1)
    [hit] = loop.run(indexed.searcher.search(query)).hits
    assert hit.match == "copy"
    [hit] = loop.run(indexed.searcher.search(replace(query, verified=False))).hits
    assert (hit.match, hit.alignment) == ("similar", None)


def test_too_many_concurrent_searches_are_refused_and_the_others_answered(
    indexed: Lookalike, loop: Loop
) -> None:
    async def run() -> list[object]:
        searches = [
            indexed.searcher.search(Query([Term(png(1))], limit=1, min_similarity=0.9))
            for _ in range(MOST_SEARCHES + 5)
        ]
        return await asyncio.gather(*searches, return_exceptions=True)

    outcomes = loop.run(run())
    assert sum(isinstance(outcome, TooBusy) for outcome in outcomes) == 5
    # Afterwards there is room again.
    loop.run(indexed.searcher.search(Query([Term(png(1))], limit=1, min_similarity=0.9)))


def test_slow_urls_stop_neither_indexing_nor_other_searches(
    indexed: Lookalike, loop: Loop, host: ImageHost
) -> None:
    late = host.add("late.png", png(1)) + "?gate=1"
    host.open.clear()

    async def run() -> list[object]:
        searcher = indexed.searcher
        slow = [
            asyncio.create_task(searcher.search(Query([Term(url=late)], limit=1)))
            for _ in range(MOST_FETCHING)
        ]
        # As many as one host is asked for at once.
        await host.waited_for(6)
        # Said at once, although the gate is closed.
        with pytest.raises(TooBusy):
            await searcher.search(Query([Term(url=late)]))
        found = await searcher.search(Query([Term(png(2))], limit=1))
        [outcome] = await indexed.indexer.upsert_urls([Entry(host.url("seed/9.png"))])
        assert (len(found.hits), outcome.status) == (1, "indexed")
        host.open.set()
        return [len((await search).hits) for search in slow]

    assert loop.run(run()) == [1] * MOST_FETCHING


def test_a_search_has_a_time_in_all(indexed: Lookalike, loop: Loop, host: ImageHost) -> None:
    async def run() -> None:
        searcher: Searcher = indexed.searcher
        searcher.timeout_s = 0.1
        with pytest.raises(FetchTimedOut, match=r"longer than 0\.08 s together"):
            await searcher.search(Query([Term(url=host.url("never"))]))
        # The time of what follows the fetches counts, too.
        async with indexed.database.begin() as connection:
            await connection.exec_driver_sql("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TooBusy, match=r"longer than 0\.1 s"):
                await searcher.search(Query([Term(image=Entry(host.url("seed/1.png")).id)]))
        searcher.timeout_s = 60
        for _ in range(MOST_SEARCHES + 1):
            await searcher.search(Query([Term(text="nothing")], limit=1))

    loop.run(run())


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([Term(url="http://127.0.0.1:1/x")] * (MOST_URLS + 1), "may name 5 URLs"),
        ([Term(text="a red cat")] * (MOST_TEXTS + 1), "may have 16 texts"),
    ],
)
def test_a_search_names_few_urls_and_texts(
    indexed: Lookalike, loop: Loop, terms: list[Term], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        loop.run(indexed.searcher.search(Query(terms)))


def test_a_failed_search_frees_its_slot(indexed: Lookalike, loop: Loop) -> None:
    for _ in range(MOST_SEARCHES + 1):
        with pytest.raises(NotAPicture):
            loop.run(indexed.searcher.search(Query([Term(b"no picture")], limit=1)))


def test_text_finds_images_if_the_encoder_embeds_text(
    settings: Settings, loop: Loop, host: ImageHost, tmp_path: Path
) -> None:
    folder = write_clip(tmp_path / "tiny")
    reading = settings.model_copy(update={"encoder": str(folder)})
    with loop.entered(open_lookalike(reading, announce=lambda _: None)) as lookalike:
        entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(4)]
        loop.run(lookalike.indexer.upsert_urls(entries))
        results = loop.run(
            lookalike.searcher.search(Query([Term(text="a red cat")], limit=3, min_similarity=-1))
        )
        assert len(results.hits) == 3
        assert [hit.match for hit in results.hits] == [None] * 3
        similarities = [hit.similarity or 0 for hit in results.hits]
        assert similarities == sorted(similarities, reverse=True)
