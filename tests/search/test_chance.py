"""How near a phrase comes to the index by chance."""

import pytest

from app.lookalike import Lookalike
from app.search.chance import PHRASES
from app.store.images import Entry
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop


def test_chance_is_the_middle_of_what_unrelated_words_reach(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(4)]
    loop.run(lookalike.indexer.upsert_urls(entries))
    chance = loop.run(lookalike.chance.similarity())
    assert chance is not None
    reached: list[float] = []
    for phrase in PHRASES:
        vector = loop.run(lookalike.encoder.embed_text(phrase))
        reached.append(loop.run(lookalike.vectors.nearest(vector, limit=1))[0][1])
    assert min(reached) < chance < max(reached)
    # It is kept: no search waits for it a second time.
    calls = lookalike.encoder.texts.calls
    assert loop.run(lookalike.chance.similarity()) == chance
    assert lookalike.encoder.texts.calls == calls


def test_there_is_no_chance_in_an_empty_index(lookalike: Lookalike, loop: Loop) -> None:
    assert loop.run(lookalike.chance.similarity()) is None


def test_a_phrase_that_fits_nothing_is_said_to(
    server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.upsert([host.url("seed/1.png"), {"url": host.url("seed/2.png"), "title": "A dog"}])
    weak = "No image here fits these words well"
    for chance, words, is_weak in ((0.9, "snow", True), (-0.9, "snow", False), (0.9, "dog", False)):

        async def similarity(_: object, chance: float = chance) -> float:
            return chance

        monkeypatch.setattr("app.search.chance.Chance.similarity", similarity)
        assert (weak in server.client.get(f"/?text={words}").text) == is_weak
