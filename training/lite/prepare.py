"""Prepares the image tower of `lite`: ranges, projection, and the features of the photos."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.encoding.lite import NETWORK, SHIPPED, write_image_tower
from app.encoding.onnx_model import PREPROCESSOR
from training.lite.features import features_of_photos, opened, read_images
from training.lite.network import Weights
from training.lite.projection import fit_projection
from training.lite.ranges import PHOTOS, ranges_of_maps


def prepare(sources: Sequence[Path], out: Path, *, without: set[str]) -> None:
    """Make `out/model` a model directory without a text tower, unless it is one.

    `out` keeps the features of the photos in the folders and tar files, but for those in `without`.
    """
    model = out / "model"
    if (model / "network.npz").exists():
        return
    names, photos = read_images(sources, without=without)
    weights = Weights()
    kept = out / "ranges.npy"
    if not kept.exists():
        chosen = np.random.default_rng(0).permutation(len(photos))[:PHOTOS]
        np.save(kept, ranges_of_maps(weights.layers, [opened(photos[place]) for place in chosen]))
    # As precise as they are shipped.
    ranges = np.load(kept).astype(np.float16).astype(np.float32)
    features = features_of_photos(names, photos, weights, ranges, out)
    np.save(out / "names.npy", np.array(names))
    projection = fit_projection(features.views[:, 0].astype(np.float32), weights.classes)
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    values = dict(zip(NETWORK, (ranges, *projection), strict=True))
    np.savez(model / "network.npz", **{name: v.astype(np.float16) for name, v in values.items()})
    shutil.copyfile(SHIPPED / PREPROCESSOR, model / PREPROCESSOR)
    write_image_tower(model)
