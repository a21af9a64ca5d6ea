from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import numpy as np
import pytest

from app.search.hits import (
    Hit,
    Match,
    marginal_relevance,
    one_per_file,
    reciprocal_rank_fusion,
)
from app.search.verification import Alignment, Verified
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


ALIGNMENT = Alignment(1.0, 1.0, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), 50, False, 0.0, 1.0)


@pytest.mark.parametrize(
    ("sha256", "verified", "match"),
    [
        ("x", None, "exact"),
        ("x", Verified("copy", ALIGNMENT), "exact"),
        ("y", Verified("copy", ALIGNMENT), "copy"),
        ("y", Verified("scene", ALIGNMENT), "scene"),
        ("y", None, "similar"),
    ],
)
def test_a_match_is_what_was_proved(sha256: str, verified: Verified | None, match: Match) -> None:
    # However similar it is.
    for similarity in (0.0, 1.0):
        hit = Hit(image(1, sha256=sha256), similarity, None).matching(verified, sha256="x")
        assert hit.match == match
        assert (hit.alignment is not None) == (match in ("copy", "scene"))
    assert Hit(image(1, sha256="x"), 1.0, None).matching(verified, sha256=None).match is None


def test_what_is_proved_to_be_the_query_passes_every_threshold() -> None:
    assert [match for match in get_args(Match) if Hit(image(1), 0.2, match).passes(0.9)] == [
        "exact",
        "copy",
    ]


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
