"""Measure copy detection: `python -m training.measuring.copies --photos PLACE… [--model DIR…]`.

Each PLACE is a folder or a tar file. Queries are made from photos of a gallery by 20
transformations and 4 hard ones, 100 queries each, and as many in the same way from photos that are
not in the gallery. The same photos give the same numbers. Perceptual hashes (packages imagehash and
pdqhash) are measured in the same run, and so are verified matches, also on images that are no
copies but share much: those of `hard_negatives`, and photos of things that are alike (`--alike`).
"""

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.onnx_model import OnnxModel
from training.data.photos import is_trained_on, photo_files
from training.data.tables import files_in_test_split, read_captions
from training.measuring.embedding import embed_images
from training.measuring.hard_negatives import hard_negatives
from training.measuring.models import add_models, load_models
from training.measuring.transformations import HARD, PLAIN, TRANSFORMATIONS
from training.measuring.verified import (
    Costs,
    Similarities,
    Wrong,
    stored,
    verified_similarities,
    wrong_among_nearest,
    wrong_pairs,
)

# Per transformation, from photos in the gallery, and as many from others.
QUERIES = 100
# The similarity at which the server begins to call an image a copy.
THRESHOLD = 0.90
SEED = 7
KINDS = {**TRANSFORMATIONS, **HARD}
# Of photos that are alike, so many are queries.
ALIKE_QUERIES = 300
# The costs of so many images are measured.
TIMED = 100


@dataclass(frozen=True)
class CopyTest:
    """The gallery and the queries.

    For each query, `places` holds the index of its photo in the gallery, or -1 if it is not there,
    and `kinds` the index of its transformation.
    """

    gallery: list[Image.Image]
    queries: list[Image.Image]
    places: NDArray[np.int64]
    kinds: NDArray[np.int64]


@dataclass(frozen=True)
class Measures:
    """The results of a test; `measure` explains them."""

    recall_by_kind: list[float]
    copies_by_kind: list[float]
    strangers_called_copies: int
    wrong_called_copies: int
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
    """Return `count` photos, chosen by the hashes of their names.

    With `only_held_out`, only photos that training never sees: those held out by name, and the
    captions' test split.
    """
    test_split = files_in_test_split(read_captions(captions))
    chosen = [
        (hashlib.sha256(f"evaluation {name}".encode()).digest(), data)
        for name, data in photo_files(sources)
        if not (only_held_out and is_trained_on(name, test_split))
    ]
    if len(chosen) < count:
        raise SystemExit(f"{count} photos are needed, but there are only {len(chosen)}.")
    return [Image.open(BytesIO(data)).convert("RGB") for _, data in sorted(chosen)[:count]]


def build_test(photos: list[Image.Image], gallery_size: int, each: int = QUERIES) -> CopyTest:
    """Make the queries: for each transformation, `each` from gallery photos and from others."""
    gallery, others = photos[:gallery_size], photos[gallery_size:]
    rng = np.random.default_rng(SEED)
    queries: list[Image.Image] = []
    places: list[int] = []
    kinds: list[int] = []
    for kind, transform in enumerate(KINDS.values()):
        inside = rng.choice(len(gallery), each, replace=len(gallery) < each)
        outside = rng.choice(len(others), each, replace=len(others) < each)
        sources = [(gallery[i], int(i)) for i in inside] + [(others[i], -1) for i in outside]
        for photo, place in sources:
            # The photo that it may be pasted into is never in the gallery.
            background = others[int(rng.integers(len(others)))]
            queries.append(transform(photo, rng, background))
            places.append(place)
            kinds.append(kind)
    return CopyTest(gallery, queries, np.array(places), np.array(kinds))


def measure(test: CopyTest, similarities: Similarities) -> Measures:
    """Measure how well the similarities find the queries' photos.

    Recall@1 per transformation and on average, and the share that is found as a copy (at 0.90); how
    many queries, of strangers and of photos in the gallery, have a wrong image as a copy; micro
    average precision over all queries' best matches (as in DISC21: Douze et al., 2021); recall and
    precision at 0.90; and the highest recall at 99% precision, with the lowest similarity that
    reaches it.
    """
    best = similarities.argmax(1)
    highest = similarities[np.arange(len(best)), best]
    right = best == test.places
    positives = test.places >= 0
    order = np.argsort(-highest, kind="stable")
    correct = np.cumsum(right[order])
    precision = correct / np.arange(1, len(order) + 1)
    total = int(positives.sum())
    passing = highest >= THRESHOLD
    good = np.flatnonzero(precision >= 0.99)
    return Measures(
        recall_by_kind=[
            float(right[positives & (test.kinds == kind)].mean()) for kind in np.unique(test.kinds)
        ],
        copies_by_kind=[
            float((right & passing)[positives & (test.kinds == kind)].mean())
            for kind in np.unique(test.kinds)
        ],
        strangers_called_copies=int((passing & ~positives).sum()),
        wrong_called_copies=int((passing & positives & ~right).sum()),
        recall=float(right[positives].mean()),
        micro_ap=float((precision * right[order]).sum() / total),
        recall_at_threshold=float((right & passing).sum() / total),
        precision_at_threshold=float(right[passing].mean()) if passing.any() else 1.0,
        recall_at_99=float(correct[good[-1]] / total) if len(good) else 0.0,
        threshold_at_99=float(highest[order][good[-1]]) if len(good) else 1.0,
    )


def model_similarities(model: OnnxModel, test: CopyTest) -> Similarities:
    """Return the cosines of the queries' and the gallery's vectors."""
    return embed_images(model, test.queries) @ embed_images(model, test.gallery).T


def hash_similarities(make: Any, test: CopyTest) -> Similarities:
    """Return the shares of bits that the queries' and the gallery's hashes have in common."""

    def bits(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return np.array([make(image).hash.reshape(-1) for image in images], np.float32) * 2 - 1

    gallery = bits(test.gallery)
    return (bits(test.queries) @ gallery.T / gallery.shape[1] + 1) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders or tar files"
    )
    add_models(parser, default=["builtin"])
    parser.add_argument("--gallery", type=int, default=500, help="how many photos it has")
    parser.add_argument(
        "--queries", type=int, default=QUERIES, help="for each transformation, and of strangers"
    )
    parser.add_argument(
        "--held-out", action="store_true", help="use only photos that training never sees"
    )
    parser.add_argument("--captions", type=Path, help="the captions that training was given")
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="also look for their parts, which is slow",
    )
    parser.add_argument(
        "--alike",
        type=Path,
        nargs="*",
        default=[],
        help="folders or tar files of photos that are alike and no copies of each other",
    )
    args = parser.parse_args()
    photos = read_photos(
        args.photos,
        only_held_out=args.held_out,
        captions=args.captions,
        count=2 * args.gallery,
    )
    test = build_test(photos, args.gallery, args.queries)
    hashes = _hashes()
    table = {name: measure(test, hash_similarities(make, test)) for name, make in hashes.items()}
    models = load_models(args.model)
    for name, model in models.items():
        table[name] = measure(test, model_similarities(model, test))
    last, costs = list(models.values())[-1], Costs()
    _add_verified(table, test, last, costs, thorough=args.thorough)
    _print(table)
    print(f"\n{'':40}{'ms per image':>14}{'bytes':>8}")
    for name, (ms, size) in _costs_of(hashes, models, test.gallery[:TIMED]).items():
        print(f"{name:40}{ms:14.1f}{size:8}")
    print("\n".join(["", *costs.lines()]))
    _print_wrong(last, args.alike)


def _hashes() -> dict[str, Any]:
    """Return the perceptual hashes that are installed; each makes an object with the bits."""
    hashes: dict[str, Any] = {"pHash": imagehash.phash, "dHash": imagehash.dhash}
    try:
        import pdqhash
    except ImportError:
        print("PDQ is left out: pdqhash is not installed.")
    else:
        hashes["PDQ"] = lambda image: imagehash.ImageHash(
            pdqhash.compute(np.asarray(image))[0].astype(bool)
        )
    return hashes


def _costs_of(
    hashes: dict[str, Any], models: dict[str, OnnxModel], images: Sequence[Image.Image]
) -> dict[str, tuple[float, int]]:
    """Return the ms of processor time and the bytes that an image costs; vectors in 16 bits."""

    def timed(make: Any) -> tuple[float, Any]:
        began = time.process_time()
        made = [make(image) for image in images]
        return 1000 * (time.process_time() - began) / len(images), made[0]

    costs = {name: timed(make) for name, make in hashes.items()}
    found = {name: (ms, made.hash.size // 8) for name, (ms, made) in costs.items()}
    for name, model in models.items():
        ms, vector = timed(lambda image, model=model: embed_images(model, [image])[0])
        found[name] = (ms, 2 * len(vector))
    return found


def _add_verified(
    table: dict[str, Measures], test: CopyTest, model: OnnxModel, costs: Costs, *, thorough: bool
) -> None:
    vectors = embed_images(model, test.gallery)
    cosines = embed_images(model, test.queries) @ vectors.T
    views = [stored(image, costs) for image in test.gallery]
    with_parts = (model, vectors) if thorough else None
    whole, parts = verified_similarities(
        test.queries, views, cosines, test.places, costs, thorough=with_parts
    )
    table["verified"] = measure(test, whole)
    if thorough:
        table["thorough"] = measure(test, parts)


def _print_wrong(model: OnnxModel, alike: Sequence[Path]) -> None:
    """Print how often images that are no copies are called copies."""
    print(f"\n{'no copies':28}{'queries':>10}{'copy':>8}{'edited':>8}{'scene':>8}")
    costs = Costs()
    for name, series in hard_negatives().items():
        views = [[stored(image, costs) for image in images] for images in series]
        _print_wrong_line(f"{name}, in pairs", wrong_pairs(views))
    for place in alike:
        images = [
            Image.open(BytesIO(data)).convert("RGB") for _, data in sorted(photo_files([place]))
        ]
        vectors = embed_images(model, images)
        views = [stored(image, costs) for image in images]
        wrong = wrong_among_nearest(views, vectors @ vectors.T, ALIKE_QUERIES)
        _print_wrong_line(f"{place.stem}, ten nearest", wrong)
    if not alike:
        print("Photos of things that are alike are left out: none are given (--alike).")


def _print_wrong_line(name: str, wrong: Wrong) -> None:
    counts = (wrong.copies, wrong.edited, wrong.scenes)
    print(f"{name:28}{wrong.queries:>10}" + "".join(f"{count:>8}" for count in counts))


def _print(table: dict[str, Measures]) -> None:
    print(f"{'':28}" + "".join(f"{name:>12}" for name in table))
    for title, field in (("recall@1", "recall_by_kind"), ("copy", "copies_by_kind")):
        for kind, name in enumerate(KINDS):
            shares = [getattr(measures, field)[kind] for measures in table.values()]
            print(f"{title + ', ' + name:28}" + "".join(f"{share:12.2f}" for share in shares))
    for title, kinds in (("14", PLAIN), ("14 and the 4 hard", [*PLAIN, *HARD]), ("24", KINDS)):
        chosen = [place for place, name in enumerate(KINDS) if name in kinds]
        shares = [np.mean(np.array(m.copies_by_kind)[chosen]) for m in table.values()]
        print(f"{'copy, mean of ' + title:28}" + "".join(f"{share:12.3f}" for share in shares))
    rows = {
        "recall@1, mean": "recall",
        "uAP": "micro_ap",
        "recall at 99% precision": "recall_at_99",
        "lowest similarity there": "threshold_at_99",
        "recall at 0.90": "recall_at_threshold",
        "precision at 0.90": "precision_at_threshold",
        "strangers called copies": "strangers_called_copies",
        "wrong ones called copies": "wrong_called_copies",
    }
    for title, field in rows.items():
        values = [getattr(measures, field) for measures in table.values()]
        print(f"{title:28}" + "".join(f"{value:12.3f}" for value in values))


if __name__ == "__main__":
    main()
