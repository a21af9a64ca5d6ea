"""Copy detection on photos: `python -m training.measuring.copies --photos PLACE… [--model DIR…]`.

A gallery of photos; 20 transformations, 100 queries each, made from photos of the gallery; and
as many made the same way from photos that are not in it. The same photos give the same numbers.
Perceptual hashes (package imagehash) are measured in the same run.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import MAX_BATCH, unit
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from training.data.photos import files, files_to_test_on, is_trained_on, read_captions
from training.measuring.transformations import TRANSFORMATIONS

Floats = NDArray[np.float32]

QUERIES = 100
THRESHOLD = 0.90
SEED = 7


@dataclass(frozen=True)
class Protocol:
    """The gallery, and the queries with the place of their photo in it, -1 for none."""

    gallery: list[Image.Image]
    queries: list[Image.Image]
    places: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class Measures:
    """See `measure`."""

    recall_by_kind: list[float]
    recall: float
    micro_ap: float
    recall_at_threshold: float
    precision_at_threshold: float
    recall_at_99: float
    threshold_at_99: float


def read_photos(
    sources: Sequence[Path],
    *,
    only_held_out: bool,
    count: int,
    captions: Path | None = None,
) -> list[Image.Image]:
    """Return `count` photos, chosen by the hashes of their names."""
    kept_back = files_to_test_on(read_captions(captions))
    chosen = [
        (hashlib.sha256(f"evaluation {name}".encode()).digest(), data)
        for name, data in files(sources)
        if not (only_held_out and is_trained_on(name, kept_back))
    ]
    if len(chosen) < count:
        raise SystemExit(f"There are only {len(chosen)} photos; {count} are needed.")
    return [Image.open(BytesIO(data)).convert("RGB") for _, data in sorted(chosen)[:count]]


def build(photos: list[Image.Image], gallery_size: int) -> Protocol:
    """Make the queries: of each transformation 100 of gallery photos and 100 of others."""
    gallery, others = photos[:gallery_size], photos[gallery_size:]
    rng = np.random.default_rng(SEED)
    queries: list[Image.Image] = []
    places: list[int] = []
    kinds: list[int] = []
    for kind, transform in enumerate(TRANSFORMATIONS.values()):
        inside = rng.choice(len(gallery), QUERIES, replace=len(gallery) < QUERIES)
        outside = rng.choice(len(others), QUERIES, replace=len(others) < QUERIES)
        sources = [(gallery[i], int(i)) for i in inside] + [(others[i], -1) for i in outside]
        for photo, place in sources:
            # What it is pasted into is never in the gallery.
            ground = others[int(rng.integers(len(others)))]
            queries.append(transform(photo, rng, ground))
            places.append(place)
            kinds.append(kind)
    return Protocol(gallery, queries, np.array(places), np.array(kinds))


def measure(protocol: Protocol, similarities: Floats) -> Measures:
    """Measure (queries, gallery) similarities.

    Recall@1 per transformation and their mean; micro average precision over all queries' best
    matches (as DISC21: Douze et al., 2021); recall and precision at 0.90; the best recall, and the
    lowest similarity, at which precision is 99%.
    """
    best = similarities.argmax(1)
    scores = similarities[np.arange(len(best)), best]
    right = best == protocol.places
    positives = protocol.places >= 0
    order = np.argsort(-scores, kind="stable")
    correct = np.cumsum(right[order])
    precision = correct / np.arange(1, len(order) + 1)
    total = int(positives.sum())
    passing = scores >= THRESHOLD
    good = np.flatnonzero(precision >= 0.99)
    return Measures(
        recall_by_kind=[
            float(right[positives & (protocol.kinds == kind)].mean())
            for kind in np.unique(protocol.kinds)
        ],
        recall=float(right[positives].mean()),
        micro_ap=float((precision * right[order]).sum() / total),
        recall_at_threshold=float((right & passing).sum() / total),
        precision_at_threshold=float(right[passing].mean()) if passing.any() else 1.0,
        recall_at_99=float(correct[good[-1]] / total) if len(good) else 0.0,
        threshold_at_99=float(scores[order][good[-1]]) if len(good) else 1.0,
    )


def embed(model: OnnxModel, images: Sequence[Image.Image]) -> Floats:
    """Return the unit vectors of pictures: (n, dimensions)."""
    batches = [
        model.embed_images([model.prepare(image) for image in images[first : first + MAX_BATCH]])
        for first in range(0, len(images), MAX_BATCH)
    ]
    return unit(np.concatenate(batches))


def model_similarities(model: OnnxModel, protocol: Protocol) -> Floats:
    """Return the cosines of (queries, gallery)."""
    return embed(model, protocol.queries) @ embed(model, protocol.gallery).T


def hash_similarities(make: Any, protocol: Protocol) -> Floats:
    """Return the shares of equal bits of (queries, gallery)."""

    def bits(images: Sequence[Image.Image]) -> Floats:
        return np.array([make(image).hash.reshape(-1) for image in images], np.float32) * 2 - 1

    gallery = bits(protocol.gallery)
    return (bits(protocol.queries) @ gallery.T / gallery.shape[1] + 1) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders or tar files"
    )
    parser.add_argument("--model", type=Path, nargs="*", default=[BUILTIN_DIRECTORY])
    parser.add_argument("--gallery", type=int, default=500)
    parser.add_argument("--held-out", action="store_true", help="only what training leaves out")
    parser.add_argument("--captions", type=Path, help="the captions that training was given")
    given = parser.parse_args()
    photos = read_photos(
        given.photos,
        only_held_out=given.held_out,
        captions=given.captions,
        count=2 * given.gallery,
    )
    protocol = build(photos, given.gallery)
    table = {
        "pHash": measure(protocol, hash_similarities(imagehash.phash, protocol)),
        "dHash": measure(protocol, hash_similarities(imagehash.dhash, protocol)),
    }
    for folder in given.model:
        model = OnnxModel(folder, name=folder.name)
        table[folder.name] = measure(protocol, model_similarities(model, protocol))
    _print(table)


def _print(table: dict[str, Measures]) -> None:
    print(f"{'':28}" + "".join(f"{name:>12}" for name in table))
    for kind, name in enumerate(TRANSFORMATIONS):
        shares = [measures.recall_by_kind[kind] for measures in table.values()]
        print(f"recall@1, {name:18}" + "".join(f"{share:12.2f}" for share in shares))
    rows = {
        "recall@1, mean": "recall",
        "uAP": "micro_ap",
        "recall at 99% precision": "recall_at_99",
        "lowest similarity there": "threshold_at_99",
        "recall at 0.90": "recall_at_threshold",
        "precision at 0.90": "precision_at_threshold",
    }
    for title, field in rows.items():
        values = [getattr(measures, field) for measures in table.values()]
        print(f"{title:28}" + "".join(f"{value:12.3f}" for value in values))


if __name__ == "__main__":
    main()
