"""Photos for training: any folders or tar files of pictures, as one array in memory."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.procedural import procedural

# Larger than the network's input, so that a crop still has detail.
SIDE = 144
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT_SHARE = 20

Pixels = NDArray[np.uint8]


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


def load_photos(sources: Sequence[Path]) -> tuple[list[str], Pixels]:
    """Return the names and the pixels, (n, 144, 144, 3), of the photos that may be trained on."""
    names: list[str] = []
    pixels: list[Pixels] = []
    for name, data in files(sources):
        if not is_held_out(name):
            image = Image.open(BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
            names.append(name)
            pixels.append(np.asarray(image))
    return names, np.stack(pixels)


def with_procedural(names: list[str], pixels: Pixels, count: int) -> tuple[list[str], Pixels]:
    """Append `count` procedural pictures."""
    made = np.stack([procedural(seed, SIDE) for seed in range(count)])
    return names + [f"procedural-{seed}" for seed in range(count)], np.concatenate([pixels, made])


def teacher_features(path: Path, names: Sequence[str]) -> tuple[NDArray[np.float32], Pixels]:
    """Return a unit target per name, whitened by the square root of each deviation, and a mask.

    The file holds, for every set, `SET_names` and `SET_features`; names without features get zeros
    and a mask of 0.
    """
    stored = np.load(path)
    sets = [key.removesuffix("_names") for key in stored.files if key.endswith("_names")]
    known = np.concatenate([stored[f"{name}_features"] for name in sets]).astype(np.float32)
    places = {
        str(name): place
        for place, name in enumerate(np.concatenate([stored[f"{name}_names"] for name in sets]))
    }
    known = (known - known.mean(0)) / np.sqrt(known.std(0))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    rows = np.array([places.get(name, -1) for name in names])
    return known[rows] * (rows >= 0)[:, None], (rows >= 0).astype(np.uint8)
