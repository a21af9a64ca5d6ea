"""Photos as the frozen image tower and the teacher see them: what texts are trained against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from app.encoding.encoder import unit
from app.encoding.onnx_model import OnnxModel
from training.data.augment import Augmenter, as_pixels
from training.data.photos import load_photos
from training.image.export import SEMANTIC
from training.image.teacher import Teacher

VIEWS = 4
BATCH = 128


class Gallery:
    """Of each photo, by its name, four views' unit vectors (photos, 4, 512), and the teacher's
    shares of ImageNet's classes (photos, 1000).
    """

    def __init__(self, names: Sequence[str], vectors: Tensor, shares: Tensor) -> None:
        self.names, self.vectors, self.shares = list(names), vectors, shares
        self.places = {name: place for place, name in enumerate(self.names)}

    def draw(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of one view, drawn at random, and the shares of each photo."""
        views = torch.randint(VIEWS, (len(photos),))
        return self.vectors[photos, views], self.shares[photos].float()


def make_gallery(sources: Sequence[Path], model: Path, out: Path, *, without: set[str]) -> Gallery:
    """Return the gallery of the photos that may be trained on, less those in `without`.

    What it takes minutes to make is kept in `out`.
    """
    kept = out / "gallery.npz"
    if not kept.exists():
        np.savez(kept, **_looked_at(sources, model, out, without))
    stored = np.load(kept)
    vectors, shares = (torch.from_numpy(stored[key]) for key in ("vectors", "shares"))
    return Gallery([str(name) for name in stored["names"]], semantic_part(vectors), shares)


def semantic_part(vectors: Tensor) -> Tensor:
    """Return vectors, (…, 512), of unit length, with nothing in the dimensions for copies: what
    they hold says nothing to texts, and could only be learned by heart.
    """
    part = torch.zeros_like(vectors)
    part[..., SEMANTIC] = vectors[..., SEMANTIC]
    return functional.normalize(part, dim=-1)


def _looked_at(
    sources: Sequence[Path], model: Path, out: Path, without: set[str]
) -> dict[str, NDArray[np.generic]]:
    names, pixels = load_photos(sources, without=without)
    encoder, teacher, augmenter = OnnxModel(model, name="image tower"), Teacher(out), Augmenter(0)
    vectors = np.zeros((len(names), VIEWS, encoder.dimensions), np.float32)
    shares = np.zeros((len(names), 1000), np.float16)
    for first in range(0, len(names), BATCH):
        x = as_pixels(torch.from_numpy(pixels[first : first + BATCH]))
        # The photo itself first, then most of it.
        views = [augmenter.plain(x), *(augmenter.scene(x) for _ in range(VIEWS - 1))]
        rows = slice(first, first + len(x))
        for view, seen in enumerate(views):
            vectors[rows, view] = unit(encoder.embed_images(list(seen.numpy())))
        shares[rows] = teacher(views[0]).logits.softmax(1).half().numpy()
    return {
        "names": np.array(names),
        "vectors": vectors,
        "shares": shares,
    }
