"""The demo's promise: each sample photo is found again after what people do to pictures."""

from collections.abc import Generator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette

from app.lookalike import Lookalike
from app.search.query import Query, Term
from app.store.images import Entry
from demo.__main__ import sample_photos, sample_route
from demo.copies import COPIES, make_copies
from tests.live import Loop
from tests.samples import altered, encode, photo

PHOTOS = sample_photos()


@pytest.fixture
def urls(lookalike: Lookalike, loop: Loop) -> Generator[dict[str, str]]:
    """The sample photos, indexed through the real way; their URLs by name."""
    with loop.serving(Starlette(routes=[sample_route(PHOTOS)])) as address:
        urls = {name: f"{address}/samples/{name}" for name in PHOTOS}
        entries = [Entry(url) for url in urls.values()]
        outcomes = loop.run(lookalike.indexer.upsert_urls(entries))
        assert [outcome.status for outcome in outcomes] == ["indexed"] * len(PHOTOS)
        yield urls


def test_there_are_enough_photos_for_a_demo() -> None:
    assert len(PHOTOS) >= 15


def test_each_photo_is_found_first_at_half_size_and_jpeg_quality_30(
    lookalike: Lookalike, loop: Loop, urls: dict[str, str]
) -> None:
    for name, path in PHOTOS.items():
        search = lookalike.searcher.search(
            Query([Term(altered(path.read_bytes()))], limit=5, min_similarity=0.9)
        )
        hits = loop.run(search).hits
        assert hits, name
        assert hits[0].image.url == urls[name]
        assert hits[0].similarity > 0.9


def test_an_unrelated_photo_passes_for_none_of_them(
    lookalike: Lookalike, loop: Loop, urls: dict[str, str]
) -> None:
    # Each photo against the others, and pictures that are none of them.
    for name, path in PHOTOS.items():
        data = path.read_bytes()
        Image.open(BytesIO(data)).verify()
        hits = loop.run(
            lookalike.searcher.search(Query([Term(data)], limit=5, min_similarity=0.9))
        ).hits
        assert [hit.image.url for hit in hits] == [urls[name]]
    for seed in range(10):
        search = lookalike.searcher.search(Query([Term(encode(photo(seed)))], limit=5))
        assert loop.run(search).hits == []


def test_altered_copies_of_photos_are_found_as_copies(
    lookalike: Lookalike, loop: Loop, urls: dict[str, str], tmp_path: Path
) -> None:
    copies = make_copies(PHOTOS, tmp_path / "copies")
    assert copies.keys() == COPIES.keys()
    for name, path in copies.items():
        hits = loop.run(lookalike.searcher.search(Query([Term(path.read_bytes())], limit=5))).hits
        assert (hits[0].image.url, hits[0].match) == (urls[COPIES[name][0]], "copy"), name


def test_a_quarter_of_a_photo_is_found_as_a_copy(
    lookalike: Lookalike, loop: Loop, urls: dict[str, str]
) -> None:
    with Image.open(PHOTOS["astronaut.png"]) as photo:
        quarter = photo.crop((120, 0, 380, 260))
    hits = loop.run(lookalike.searcher.search(Query([Term(encode(quarter))], limit=5))).hits
    assert [(hit.image.url, hit.match) for hit in hits] == [(urls["astronaut.png"], "copy")]
