"""The photos as embedded by the frozen image tower, with the teacher's classes: what texts are
trained against.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from app.encoding.encoder import unit
from app.encoding.onnx_model import OnnxModel
from training.data.augment import Augmenter
from training.data.inputs import as_pixels
from training.data.photos import load_photos
from training.image.teacher import Teacher
from training.image.vector_layout import SEMANTIC_PART

# Of each photo.
VIEWS = 4
BATCH = 128


class EmbeddedPhotos:
    """The photos' names; unit vectors of four views of each, (photos, 4, 512); and the teacher's
    probabilities of ImageNet's classes, (photos, 1000).
    """

    def __init__(self, names: Sequence[str], vectors: Tensor, shares: Tensor) -> None:
        self.names, self.vectors, self.shares = list(names), vectors, shares
        self.places = {name: place for place, name in enumerate(self.names)}

    def draw(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of a random view, and the classes' probabilities, of each photo."""
        views = torch.randint(VIEWS, (len(photos),))
        return self.vectors[photos, views], self.shares[photos].float()


def embed_photos(
    sources: Sequence[Path], model: Path, out: Path, *, without: set[str]
) -> EmbeddedPhotos:
    """Embed the photos to train on, without those in `without`.

    This takes minutes, so the result is kept in `out`.
    """
    kept = out / "gallery.npz"
    if not kept.exists():
        np.savez(kept, **_embedded(sources, model, out, without))
    stored = np.load(kept)
    vectors, shares = (torch.from_numpy(stored[key]) for key in ("vectors", "shares"))
    return EmbeddedPhotos([str(name) for name in stored["names"]], semantic_part(vectors), shares)


def semantic_part(vectors: Tensor) -> Tensor:
    """Return vectors, (…, 512), reduced to their semantic part and of unit length.

    The other dimensions have nothing to do with texts, which could only memorise them.
    """
    part = torch.zeros_like(vectors)
    part[..., SEMANTIC_PART] = vectors[..., SEMANTIC_PART]
    return functional.normalize(part, dim=-1)


def _embedded(
    sources: Sequence[Path], model: Path, out: Path, without: set[str]
) -> dict[str, NDArray[np.generic]]:
    names, pixels = load_photos(sources, without=without)
    encoder, teacher, augmenter = OnnxModel(model, name="image tower"), Teacher(out), Augmenter(0)
    vectors = np.zeros((len(names), VIEWS, encoder.dimensions), np.float32)
    shares = np.zeros((len(names), 1000), np.float16)
    for first in range(0, len(names), BATCH):
        x = as_pixels(torch.from_numpy(pixels[first : first + BATCH]))
        # The whole photo first, then crops that show most of it.
        views = [augmenter.plain(x), *(augmenter.scene(x) for _ in range(VIEWS - 1))]
        rows = slice(first, first + len(x))
        for view, inputs in enumerate(views):
            vectors[rows, view] = unit(encoder.embed_images(list(inputs.numpy())))
        shares[rows] = teacher(views[0]).logits.softmax(1).half().numpy()
    return {
        "names": np.array(names),
        "vectors": vectors,
        "shares": shares,
    }
