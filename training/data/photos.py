"""Photos from folders and tar files, and which of them training may see."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.procedural import procedural

# Larger than the network's input, so that a crop still has detail.
SIDE = 144
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# One photo in so many is held out of training.
HELD_OUT_ONE_IN = 20

Pixels = NDArray[np.uint8]


def photo_files(sources: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every photo in the folders and tar files."""
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
    """Return whether a photo is held out of training: one in 20, by the hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def is_trained_on(name: str, without: set[str]) -> bool:
    """Return whether training may see a photo: it is neither in `without` nor held out."""
    return name not in without and not is_held_out(name)


def load_photos(sources: Sequence[Path], *, without: set[str]) -> tuple[list[str], Pixels]:
    """Return the names and the pixels, (n, 144, 144, 3), of the photos to train on."""
    names: list[str] = []
    pixels: list[Pixels] = []
    for name, data in photo_files(sources):
        if is_trained_on(name, without):
            names.append(name)
            pixels.append(squashed(data))
    return names, np.stack(pixels)


def squashed(data: bytes) -> Pixels:
    """Return the pixels of an image file, squashed to (144, 144, 3)."""
    image = Image.open(BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def with_procedural(names: list[str], pixels: Pixels, count: int) -> tuple[list[str], Pixels]:
    """Append `count` procedural images."""
    made = np.stack([procedural(seed, SIDE) for seed in range(count)])
    return names + [f"procedural-{seed}" for seed in range(count)], np.concatenate([pixels, made])
