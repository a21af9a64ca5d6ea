"""What is trained on: photos from folders or tar files, captions and labels from tables."""

import csv
import hashlib
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.procedural import procedural

# Larger than the network's input, so that a crop still has detail.
SIDE = 144
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT_SHARE = 20
# Of captions: the split whose photos no training sees.
TEST_SPLIT = "test"

Pixels = NDArray[np.uint8]


class Caption(NamedTuple):
    """A line of a captions file."""

    file: str
    split: str
    text: str


def files(sources: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every picture of the folders and tar files."""
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    yield path.name, path.read_bytes()
        else:
            with tarfile.open(source) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is not None and member.name.lower().endswith(SUFFIXES):
                        yield Path(member.name).name, file.read()


def is_held_out(name: str) -> bool:
    """Return whether a photo is kept from training: one in 20, by its name."""
    return hashlib.sha256(name.encode()).digest()[0] % HELD_OUT_SHARE == 0


def files_to_test_on(captions: Sequence[Caption]) -> set[str]:
    """Return the photos that captions keep for tests."""
    return {caption.file for caption in captions if caption.split == TEST_SPLIT}


def is_trained_on(name: str, without: set[str]) -> bool:
    """Return whether training may see a photo: not those to test on, nor those held out."""
    return name not in without and not is_held_out(name)


def load_photos(sources: Sequence[Path], *, without: set[str]) -> tuple[list[str], Pixels]:
    """Return the names and the pixels, (n, 144, 144, 3), of the photos that may be trained on."""
    names: list[str] = []
    pixels: list[Pixels] = []
    for name, data in files(sources):
        if is_trained_on(name, without):
            names.append(name)
            pixels.append(squashed(data))
    return names, np.stack(pixels)


def squashed(data: bytes) -> Pixels:
    """Return the pixels, (144, 144, 3), of a picture file."""
    image = Image.open(BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def with_procedural(names: list[str], pixels: Pixels, count: int) -> tuple[list[str], Pixels]:
    """Append `count` procedural pictures."""
    made = np.stack([procedural(seed, SIDE) for seed in range(count)])
    return names + [f"procedural-{seed}" for seed in range(count)], np.concatenate([pixels, made])


def read_captions(path: Path | None) -> list[Caption]:
    """Return the captions of a tab-separated file with the columns file, split and caption."""
    if path is None:
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Caption(row["file"], row["split"], row["caption"]) for row in rows]


def read_classes(path: Path) -> list[str]:
    """Return the synonyms of each of the teacher's classes; the file's first line is no class."""
    return path.read_text("utf-8").splitlines()[1:]


def read_features(
    path: Path, names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the features, (n, size), of the photos of those names, and which of them are known.

    `path` is a NumPy archive that holds, for any sets of photos, `SET_names` and `SET_features`.
    """
    stored = np.load(path)
    sets = [key.removesuffix("_names") for key in stored.files if key.endswith("_names")]
    rows = {
        Path(str(name)).name: row
        for kind in sets
        for name, row in zip(stored[f"{kind}_names"], stored[f"{kind}_features"], strict=True)
    }
    known = np.array([name in rows for name in names])
    nothing = np.zeros_like(next(iter(rows.values())))
    features = np.stack([rows.get(name, nothing) for name in names])
    return features.astype(np.float32), known


def read_labels(path: Path | None) -> dict[str, set[str]]:
    """Return the files that each label is true of; a line may hold several, split by commas."""
    labels: dict[str, set[str]] = defaultdict(set)
    if path is not None:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                for label in row["label"].split(","):
                    labels[label.strip()].add(row["file"])
    return dict(labels)
