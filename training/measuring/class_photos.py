"""Choose one photo per class for `make eval-text`:
`python -m training.measuring.class_photos --data PLACE… --classes FILE --out FOLDER`.

The photos are chosen from those that training never sees. The network decides which class each one
shows, and the file is named after the class.
"""

import argparse
from pathlib import Path

import numpy as np

from training.data.photos import is_trained_on, photo_files
from training.data.tables import files_in_test_split, read_captions, read_classes
from training.lite.features import BATCH, opened
from training.lite.network import Network, Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tar files")
    parser.add_argument("--captions", type=Path, help="the captions that training was given")
    parser.add_argument(
        "--classes", type=Path, required=True, help="the network's 1,001 classes, one per line"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder for the photos, empty so far"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    test_split = files_in_test_split(read_captions(args.captions))
    photos = [data for name, data in photo_files(args.data) if not is_trained_on(name, test_split)]
    # Classes of the same name, like the two cranes, share a photo.
    names = [synonyms.split(",")[0].strip() for synonyms in read_classes(args.classes)]
    found = surest_of_classes(photos)
    chosen = {names[place]: photos[photo] for place, photo in found.items()}
    for name, data in chosen.items():
        (args.out / f"{name.replace(' ', '_')}.jpg").write_bytes(data)
    print(f"{len(chosen)} photos of classes, chosen from {len(photos)}: {args.out}")


def surest_of_classes(photos: list[bytes]) -> dict[int, int]:
    """Return the index of the photo that shows each class with the highest probability.

    Classes that are no photo's likeliest are left out.
    """
    weights = Weights()
    network = Network(weights.layers, ["features"], ranges=None)
    features = [
        network([opened(photo) for photo in photos[first : first + BATCH]])[0]
        for first in range(0, len(photos), BATCH)
    ]
    shares = weights.probabilities(np.concatenate(features))
    # Of each class, the surest photo comes last and stays.
    return {int(shares[photo].argmax()): int(photo) for photo in shares.max(1).argsort()}


if __name__ == "__main__":
    main()
