"""Measure how alike the images nearest to an image are:
`python -m training.measuring.similar --photos PLACE… [--labels FILE] [--model NAME…]`.

Each PLACE is a folder or a tar file, and a test of its own. The class of a photo is its label in
FILE, or else the folder that it is in.
"""

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import Vectors
from training.data.photos import SUFFIXES, photo_files
from training.data.tables import read_labels
from training.measuring.embedding import embed_images
from training.measuring.models import add_models, load_models

NEAREST = 10


def class_among_nearest(vectors: Vectors, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return, for each vector whose class has others, the share of its class among its nearest.

    They are its ten nearest, or as many as its class has others.
    """
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :NEAREST]
    names = np.array(classes)
    shares: list[float] = []
    for place, name in enumerate(names):
        others = int((names == name).sum()) - 1
        if others:
            shares.append(float((names[nearest[place, :others]] == name).mean()))
    return np.array(shares)


def labelled_photos(place: Path, labels: dict[str, set[str]], most: int) -> list[tuple[str, bytes]]:
    """Return the classes and the files of a place's photos, at most `most` of each class.

    Which, the hashes of their names decide. Of several labels, the rarest is the most specific.
    Photos without a label are left out.
    """
    found: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
    for label, name, data in _by_label(place, labels) if labels else _by_folder(place):
        found[label].append((hashlib.sha256(f"similar {name}".encode()).digest(), data))
    return [(label, data) for label, some in found.items() for _, data in sorted(some)[:most]]


def _by_label(place: Path, labels: dict[str, set[str]]) -> Iterator[tuple[str, str, bytes]]:
    commonest_first = sorted(labels, key=lambda label: -len(labels[label]))
    label_of = {name: label for label in commonest_first for name in labels[label]}
    for name, data in photo_files([place]):
        if name in label_of:
            yield label_of[name], name, data


def _by_folder(place: Path) -> Iterator[tuple[str, str, bytes]]:
    for path in sorted(place.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.parent.name, path.name, path.read_bytes()


def asked(description: str | None, *, most: int) -> argparse.Namespace:
    """Return the command line of a measurement on labelled photos."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders or tar files"
    )
    parser.add_argument("--labels", type=Path, help="tab-separated file: file, label")
    parser.add_argument("--most", type=int, default=most, help="photos of each class, at most")
    add_models(parser, default=["builtin", "lite"])
    return parser.parse_args()


def sets(args: argparse.Namespace) -> Iterator[tuple[str, list[str], list[Image.Image]]]:
    """Yield the name of each set of photos, with their classes and the photos in the same order."""
    labels = read_labels(args.labels)
    for place in args.photos:
        found = labelled_photos(place, labels, args.most)
        images = [Image.open(BytesIO(data)).convert("RGB") for _, data in found]
        yield place.stem, [label for label, _ in found], images


def main() -> None:
    args = asked(__doc__, most=10)
    models = load_models(args.model)
    print(f"{'':36}{'chance':>10}" + "".join(f"{name:>12}" for name in models))
    for name, classes, images in sets(args):
        shares = [
            class_among_nearest(embed_images(model, images), classes).mean()
            for model in models.values()
        ]
        title = f"{name}: {len(classes)} photos, {len(set(classes))} classes"
        row = [_chance(classes), *shares]
        print(f"{title:36}{row[0]:10.3f}" + "".join(f"{share:12.3f}" for share in row[1:]))


def _chance(classes: Sequence[str]) -> float:
    _, counts = np.unique(classes, return_counts=True)
    some = counts[counts > 1]
    return float((some * (some - 1)).sum() / some.sum() / (len(classes) - 1))


if __name__ == "__main__":
    main()
