"""Prepares what `lite` is trained on: the ranges of its maps, and the features of the photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.lite.features import VIEWS, features_of_photos, opened, read_images
from training.lite.network import Weights
from training.lite.ranges import PHOTOS, ranges_of_maps

RANGES = "ranges.npy"


def prepare(sources: Sequence[Path], out: Path, *, without: set[str], captioned: set[str]) -> None:
    """Keep in `out` the features of the photos in the folders and tar files, but for those in
    `without`, and the ranges of the network's maps, unless they are there.

    Photos that are `captioned` have several views.
    """
    if all((out / name).exists() for name in ("names.npy", f"features{VIEWS - 1}.npy")):
        return
    names, photos = read_images(sources, without=without)
    weights = Weights()
    kept = out / RANGES
    if not kept.exists():
        chosen = np.random.default_rng(0).permutation(len(photos))[:PHOTOS]
        np.save(kept, ranges_of_maps(weights.layers, [opened(photos[place]) for place in chosen]))
    # As precise as they are shipped.
    ranges = np.load(kept).astype(np.float16).astype(np.float32)
    features_of_photos(names, photos, weights, ranges, out, captioned=captioned)
    np.save(out / "names.npy", np.array(names))
