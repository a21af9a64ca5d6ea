"""Which of the nearest images are compared in detail with a query image."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from app.search.hits import Hit
from app.search.verifier import Subject
from app.store.images import ImageRow

MOST_VERIFIED = 20
# No copy is looked for below this similarity. By the built-in encoder, of 260 photos, no crop to
# 30% of the area has less, nor an easy alteration, and one in 250 crops to 20% (at 0.77, 15 of
# them); the nearest stranger among 259 has 0.79 to 0.88 in eight of ten searches. By lite, 95% of
# crops to 40% have 0.60 or more, half of the nearest strangers among 400 0.56, and a tenth-nearest
# one 0.58 at the most in 95% of searches; what it misses, the copy vector finds. Encoders not
# listed have no floor.
FLOORS: Mapping[str, float] = {"builtin": 0.73, "lite": 0.5}


def candidates(query: Subject, rankings: Mapping[str, Sequence[Hit]]) -> list[ImageRow]:
    """Return the images to compare with a query, at most 20, one of each file.

    `rankings` are hits by the name of the encoder that found them, best first; they take turns.
    Those that are too plain, and those with the query's bytes, need no comparison.
    """
    near = [
        [hit.image for hit in hits if (hit.similarity or -1.0) >= FLOORS.get(encoder, -1.0)]
        for encoder, hits in rankings.items()
    ]
    images: dict[str, ImageRow] = {}
    for image in _alternating(near):
        if not image.too_plain and image.sha256 != query.sha256:
            images.setdefault(image.sha256, image)
    return list(images.values())[:MOST_VERIFIED]


def _alternating(rankings: Iterable[Sequence[ImageRow]]) -> Iterable[ImageRow]:
    for images in zip_longest(*rankings):
        yield from (image for image in images if image is not None)
