from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from app.search.hits import Hit, marginal_relevance, match_of, one_per_file, reciprocal_rank_fusion
from app.store.images import ImageRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def image(number: int, **given: Any) -> ImageRow:
    defaults: dict[str, Any] = {
        "url": f"https://example.com/{number}",
        "sha256": f"{number:064x}",
        "dhash": 0,
        "bytes": 1,
        "width": 1,
        "height": 1,
        "format": "PNG",
        "exif": {},
        "title": "",
        "description": "",
        "tags": [],
        "indexed_at": NOW,
        "updated_at": NOW,
        "etag": None,
        "last_modified": None,
        "checked_at": NOW,
        "gone_at": None,
        "colours": [],
        "metadata": {},
    }
    return ImageRow(id=UUID(int=number), **{**defaults, **given})


def test_fusion_puts_images_in_both_rankings_first() -> None:
    a, b, c, d = (UUID(int=n) for n in range(4))
    assert reciprocal_rank_fusion([[a, b, c], [c, d]]) == [c, a, b, d]
    assert reciprocal_rank_fusion([[a, b], []]) == [a, b]


def test_images_with_the_same_bytes_become_one_hit_with_places() -> None:
    hits = [Hit(image(n, sha256=sha), 1 - n / 10, None) for n, sha in enumerate("abaca")]
    first, second, third = one_per_file(hits)
    assert [place.id.int for place in first.places] == [2, 4]
    assert (second.image.id.int, third.image.id.int) == (1, 3)
    assert [i.int for i in first.ids] == [0, 2, 4]


@pytest.mark.parametrize(
    ("similarity", "given", "match"),
    [
        (1.0, {"sha256": "x"}, "exact"),
        (0.95, {"dhash": 0b111}, "copy"),
        (0.89, {"dhash": 0}, "similar"),
        (0.99, {"dhash": 0xFFF}, "similar"),
    ],
)
def test_match_is_exact_copy_or_similar(
    similarity: float, given: dict[str, Any], match: str
) -> None:
    assert match_of(image(1, **given), similarity, sha256="x", dhash=0) == match
    assert match_of(image(1, **given), similarity, sha256=None, dhash=None) is None


def test_the_threshold_applies_only_to_hits_with_a_similarity() -> None:
    assert Hit(image(1), None, None).passes(0.9)
    assert Hit(image(1), 0.0, None).passes(0)
    assert not Hit(image(1), 0.89, None).passes(0.9)


def test_marginal_relevance_follows_the_definition_in_the_paper() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query, weight = vectors[0], 0.6
    chosen: list[int] = []
    for _ in range(10):
        rest = [n for n in range(30) if n not in chosen]
        chosen.append(
            max(
                rest,
                key=lambda n: (
                    weight * (vectors[n] @ query)
                    - (1 - weight) * max((vectors[n] @ vectors[c] for c in chosen), default=-1)
                ),
            )
        )
    assert marginal_relevance(query, vectors, limit=10, diversity=1 - weight) == chosen
    nearest = np.argsort(-(vectors @ query))[:5].tolist()
    assert marginal_relevance(query, vectors, limit=5, diversity=0) == nearest
    assert marginal_relevance(query, vectors[:0], limit=5, diversity=0.5) == []
