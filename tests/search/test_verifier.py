from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from app.lookalike import Lookalike
from app.pictures.decoding import decode
from app.search.verifier import Verifier
from tests.live import Loop
from tests.samples import altered, encode, png


@pytest.mark.parametrize(("budget_ms", "compared"), [(30_000, 3), (1e-6, 1), (0, 0)])
def test_the_likeliest_image_is_compared_even_if_there_is_no_time(
    lookalike: Lookalike, loop: Loop, budget_ms: float, compared: int
) -> None:
    data = png(1)
    files = {"a.png": data, "b.jpg": altered(data), "c.jpg": altered(altered(data))}
    outcomes = [
        loop.run(lookalike.indexer.upsert_upload(file, title=name)) for name, file in files.items()
    ]
    ids = [outcome.id for outcome in outcomes if outcome.id]
    found = loop.run(lookalike.catalog.find_all(ids))
    images = [found[image_id] for image_id in ids]
    query = decode(altered(data), max_pixels=10**8).facts()
    with ThreadPoolExecutor(2) as threads:
        verifier = Verifier(lookalike.index.keypoints, threads, budget_ms=budget_ms)
        done = loop.run(verifier.verify(query, images))
    assert set(done.found) == set(ids[:compared])
    assert bool(done.notes) == (compared < len(images))


def test_a_query_looked_at_beforehand_has_the_same_matches(
    lookalike: Lookalike, loop: Loop
) -> None:
    data = png(2)
    [outcome] = [loop.run(lookalike.indexer.upsert_upload(altered(data), title="a.jpg"))]
    assert outcome.id is not None
    image = loop.run(lookalike.catalog.find(outcome.id))
    assert image is not None
    query = decode(data, max_pixels=10**8).facts()
    with ThreadPoolExecutor(2) as threads:
        verifier = Verifier(lookalike.index.keypoints, threads, budget_ms=30_000)
        looking = verifier.look(query)
        assert looking is not None
        found = loop.run(verifier.verify(query, [image], looking)).found
        assert found == loop.run(verifier.verify(query, [image])).found
        assert found[outcome.id].match == "copy"
        # Nobody looks at what will not be compared.
        assert Verifier(lookalike.index.keypoints, threads, budget_ms=0).look(query) is None
        plain = decode(encode(Image.new("RGB", (64, 64), "navy")), max_pixels=10**8).facts()
        assert verifier.look(plain) is None
