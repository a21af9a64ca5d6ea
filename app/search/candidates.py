"""Which of the nearest images are compared in detail with a query image."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from app.search.hits import Hit
from app.search.verifier import Subject
from app.store.images import ImageRow

MOST_VERIFIED = 20
# No copy is looked for below this similarity. Of 100 photos each, by the built-in encoder: no crop
# to 40% has less, no other easy alteration either, and one in 20 crops to 20%; the nearest stranger
# among 400 has 0.76 to 0.90. By lite, 95 crops to 40% have 0.55 or more, and half of the nearest
# strangers 0.54, a tenth-nearest one 0.53 at the most in 95 searches; what it misses, the copy
# vector finds. An encoder that is not listed has no floor.
FLOORS: Mapping[str, float] = {"builtin": 0.77, "lite": 0.5}


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
