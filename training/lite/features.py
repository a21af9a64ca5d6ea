"""The network's features of photos, and of views of them, kept on disk."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.efficientnet import Array
from training.data.photos import is_trained_on, photo_files
from training.lite.network import FEATURES, Network, Weights

# Of a photo with captions: the whole, and parts of it. Others have one view, which counts as all.
VIEWS = 4
BATCH = 16
LEAST_AREA = 0.4


class PhotoFeatures:
    """The photos' names, and the features of each view, (photos, views, 1280) float16."""

    def __init__(self, names: Sequence[str], views: NDArray[np.float16]) -> None:
        self.names, self.views = list(names), views


def read_images(sources: Sequence[Path], *, without: set[str]) -> tuple[list[str], list[bytes]]:
    """Return the names and the files of the photos to train on."""
    found = [pair for pair in photo_files(sources) if is_trained_on(pair[0], without)]
    return [name for name, _ in found], [data for _, data in found]


def opened(data: bytes) -> Image.Image:
    """Return an image file as an RGB image."""
    return Image.open(BytesIO(data)).convert("RGB")


def features_of_photos(
    names: Sequence[str],
    photos: Sequence[bytes],
    weights: Weights,
    ranges: Array,
    out: Path,
    *,
    captioned: set[str],
) -> PhotoFeatures:
    """Return the features of the photos' views, which take a while, so `out` keeps each view's."""
    network = Network(weights.layers, ["features"], ranges=ranges)
    views: list[NDArray[np.float16]] = []
    for view in range(VIEWS):
        kept = out / f"features{view}.npy"
        if not kept.exists():
            seen = [place for place, name in enumerate(names) if not view or name in captioned]
            features = views[0].copy() if view else np.zeros((len(names), FEATURES), np.float16)
            features[seen] = _features(
                [names[place] for place in seen], [photos[place] for place in seen], network, view
            )
            np.save(kept, features)
            print(f"features of view {view + 1} of {VIEWS}: {len(seen)} photos", flush=True)
        views.append(np.load(kept))
    return PhotoFeatures(names, np.stack(views, 1))


def read_features(out: Path) -> PhotoFeatures:
    """Return the features that `features_of_photos` kept, by the names in `names.npy`."""
    views = [np.load(out / f"features{view}.npy") for view in range(VIEWS)]
    return PhotoFeatures([str(name) for name in np.load(out / "names.npy")], np.stack(views, 1))


def _features(
    names: Sequence[str], photos: Sequence[bytes], network: Network, view: int
) -> NDArray[np.float16]:
    found = np.zeros((len(photos), FEATURES), np.float16)
    for first in range(0, len(photos), BATCH):
        part = slice(first, first + BATCH)
        images = [
            view_of(opened(data), f"{view} {name}") if view else opened(data)
            for name, data in zip(names[part], photos[part], strict=True)
        ]
        found[part] = network(images)[0]
    return found


def view_of(image: Image.Image, seed: str) -> Image.Image:
    """Return a part of an image, at least 40% of its area, sometimes mirrored."""
    digest = hashlib.sha256(seed.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    area, stretch = rng.uniform(LEAST_AREA, 1) ** 0.5, np.exp(rng.uniform(-0.2, 0.2))
    width = round(image.width * min(1, area * stretch))
    height = round(image.height * min(1, area / stretch))
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    part = image.crop((left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
