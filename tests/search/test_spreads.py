"""Sums of texts and images: each counts by how widely its similarities spread over the index."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from app.encoding.encoder import Vector, unit
from app.lookalike import Lookalike
from app.search.query import Query, Term
from app.search.resolver import Clock
from app.search.searcher import Searcher
from app.search.spreads import (
    FEWEST,
    KNOWN,
    OVERLOOKED,
    Spreads,
    spread_ratio,
    wanted_beside_text,
)
from app.store.images import Entry
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png


def spreads_of(lookalike: Lookalike) -> Spreads:
    return Spreads(lookalike.index.spaces.semantic, lookalike.sizes)


def indexed(lookalike: Lookalike, loop: Loop, host: ImageHost, *, number: int) -> list[Entry]:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(number)]
    loop.run(lookalike.indexer.upsert_urls(entries))
    return entries


def vector_of(lookalike: Lookalike, loop: Loop, query: Query) -> Vector:
    searcher: Searcher = lookalike.searcher
    resolved = loop.run(searcher._resolver.resolve(query, Clock()))
    assert resolved.asked.query_vector is not None
    return resolved.asked.query_vector


def test_the_ratio_is_that_of_the_deviations() -> None:
    rng = np.random.default_rng(0)
    images = unit(rng.normal(size=(200, 64)))
    # Texts lie where no image does, but for a little.
    texts: NDArray[np.float32] = np.zeros((30, 65), np.float32)
    texts[:, :64] = 0.1 * unit(rng.normal(size=(30, 64)))
    texts[:, 64] = 1
    wide = np.concatenate([images, np.zeros((200, 1), np.float32)], axis=1)
    assert spread_ratio(unit(texts), wide) == pytest.approx(0.1, rel=0.05)


def test_what_a_text_finds_already_counts_less_beside_it() -> None:
    rng = np.random.default_rng(0)
    images = unit(rng.normal(size=(200, 64)))
    text = images[0]
    order = np.argsort(-images @ text)
    weights = [wanted_beside_text(text, [images[place]], images) for place in order]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (KNOWN, OVERLOOKED)
    # Several count as their mean; of too small an index, nothing is known.
    both = wanted_beside_text(text, [images[order[0]], images[order[-1]]], images)
    assert KNOWN < both < OVERLOOKED
    assert KNOWN < wanted_beside_text(text, [images[0]], images[: FEWEST - 1]) < OVERLOOKED


def test_it_is_measured_again_as_the_index_grows(
    reading: Lookalike, loop: Loop, host: ImageHost
) -> None:
    spreads = spreads_of(reading)
    assert loop.run(spreads.measured()).ratio == 1.0
    indexed(reading, loop, host, number=FEWEST)
    first = loop.run(spreads.measured()).ratio
    assert first != 1.0
    calls = reading.encoder.texts.calls
    indexed(reading, loop, host, number=FEWEST + 3)
    assert loop.run(spreads.measured()).ratio == first
    assert reading.encoder.texts.calls == calls
    indexed(reading, loop, host, number=2 * FEWEST)
    assert loop.run(spreads.measured()).ratio != first


def test_an_image_counts_beside_a_text_by_the_ratio(
    reading: Lookalike, loop: Loop, host: ImageHost
) -> None:
    entries = indexed(reading, loop, host, number=FEWEST)
    ratio = loop.run(spreads_of(reading).measured()).ratio
    image = loop.run(reading.vectors.fetch([entries[3].id]))[entries[3].id]
    words = loop.run(reading.encoder.embed_text("a red cat"))

    def close(query: Query, expected: Vector) -> bool:
        # A query's vector is held in half precision, which makes it a little longer or shorter.
        found, expected = unit(np.array([vector_of(reading, loop, query), expected]))
        return float(found @ expected) > 0.99999

    phrase, picture = Term(text="a red cat"), Term(image=entries[3].id)
    assert close(Query([phrase, picture]), words + ratio * image)
    marked = Query([phrase], like=[entries[3].id])
    spread = loop.run(reading.searcher._resolver._spreads.measured())
    weight = wanted_beside_text(words, [image], spread.sample)
    assert close(marked, words + weight * ratio * image)
    assert close(Query([phrase]), words)
    # Images among themselves are as before.
    other = loop.run(reading.vectors.fetch([entries[4].id]))[entries[4].id]
    assert close(Query([picture], like=[entries[4].id]), image + 0.75 * other)
    assert close(Query([picture, Term(image=entries[4].id, weight=-0.5)]), image - 0.5 * other)


def test_a_sample_of_many_vectors_is_read_by_pages(
    reading: Lookalike, loop: Loop, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed(reading, loop, host, number=FEWEST)
    vectors = reading.vectors

    async def analyze() -> None:
        async with reading.database.begin() as connection:
            await connection.execute(text(f"ANALYZE {vectors.table.name}"))

    loop.run(analyze())
    every = loop.run(vectors.sample(100))
    assert every.shape == (FEWEST, reading.encoder.dimensions)
    assert loop.run(vectors.sample(7)).tolist() == every[:7].tolist()
    monkeypatch.setattr("app.store.nearest.SAMPLED_BY_PAGE", 0)
    some = loop.run(vectors.sample(7))
    assert some.shape == (7, reading.encoder.dimensions)
    assert {tuple(row) for row in some.tolist()} <= {tuple(row) for row in every.tolist()}


def test_an_encoder_without_texts_has_no_ratio(
    lookalike: Lookalike, loop: Loop, host: ImageHost
) -> None:
    indexed(lookalike, loop, host, number=2)
    marked = Query([Term(png(1))], like=[Entry(host.url("seed/0.png")).id])
    assert np.isfinite(vector_of(lookalike, loop, marked)).all()
