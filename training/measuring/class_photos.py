"""One photo per class, as `make eval-text` wants them:
`python -m training.measuring.class_photos --data …`.

Taken from the photos that no training sees. What each shows is the teacher's opinion, and its name.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from training.data.augment import Augmenter
from training.data.photos import (
    files,
    files_to_test_on,
    is_trained_on,
    read_captions,
    read_classes,
    squashed,
)
from training.image.teacher import Teacher, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tar files")
    parser.add_argument("--captions", type=Path, help="the captions that training was given")
    parser.add_argument(
        "--classes", type=Path, required=True, help="the 1,001 classes, a line each"
    )
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for the photos")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept_back = files_to_test_on(read_captions(given.captions))
    photos = [data for name, data in files(given.data) if not is_trained_on(name, kept_back)]
    # Classes of one name, like the two cranes, share a photo.
    names = [synonyms.split(",")[0].strip() for synonyms in read_classes(given.classes)]
    found = best_of_classes(photos, Teacher(given.out.parent))
    chosen = {names[place]: photos[photo] for place, photo in found.items()}
    for name, data in chosen.items():
        (given.out / f"{name.replace(' ', '_')}.jpg").write_bytes(data)
    print(f"{len(chosen)} names of classes, from {len(photos)} photos: {given.out}")


def best_of_classes(photos: list[bytes], teacher: Teacher) -> dict[int, int]:
    """Return, for each class that is some photo's likeliest, the place of the surest such photo."""
    pixels = torch.from_numpy(np.stack([squashed(photo) for photo in photos]))
    sureness, classes = seen(teacher, Augmenter(0), pixels).logits.softmax(1).max(1)
    # Of one class, the surest comes last and stays.
    return {int(classes[photo]): int(photo) for photo in sureness.argsort()}


if __name__ == "__main__":
    main()
