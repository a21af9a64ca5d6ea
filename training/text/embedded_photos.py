"""The photos as embedded by the frozen image tower, with the network's classes: what texts are
trained against.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from app.encoding.efficientnet import Array
from app.encoding.efficientnet_graph import Projection
from app.encoding.lite import NETWORK
from training.lite.features import read_features
from training.lite.network import Weights

# Imagined photos of each class, and how far its logit is from the mean there, in deviations,
# which is as far as in photos that do show it.
IMAGINED, LIKELY = 3, (5.0, 9.0)


class EmbeddedPhotos:
    """The photos' names; unit vectors of views of each, (photos, views, 384); and the probabilities
    of ImageNet's classes, (photos, 1000).

    Imagined photos come last and have no names.
    """

    def __init__(self, names: Sequence[str], vectors: Tensor, shares: Tensor) -> None:
        self.names, self.vectors, self.shares = list(names), vectors, shares
        self.places = {name: place for place, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.vectors)

    def draw(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of a random view, and the classes' probabilities, of each photo."""
        views = torch.randint(self.vectors.shape[1], (len(photos),))
        return self.vectors[photos, views], self.shares[photos].float()


def embedded_photos(out: Path) -> EmbeddedPhotos:
    """Return the photos that `training.lite.prepare` left in `out`, and imagined ones of every
    class.
    """
    photos, weights = read_features(out), Weights()
    with np.load(out / "model" / "network.npz") as stored:
        projection = Projection(*(stored[name].astype(np.float32) for name in NETWORK[1:]))
    whole = photos.views[:, 0].astype(np.float32)
    shown = imagined(whole, weights, photos.views.shape[1])
    views = [photos.views, shown.astype(np.float16)]
    vectors = np.concatenate([_vectors(part, projection) for part in views])
    shares = [weights.probabilities(whole), weights.probabilities(shown[:, 0])]
    return EmbeddedPhotos(
        photos.names,
        functional.normalize(torch.from_numpy(vectors), dim=-1),
        torch.from_numpy(np.concatenate(shares)).half(),
    )


def imagined(features: Array, weights: Weights, views: int) -> Array:
    """Return features that photos of each class may have, (1000 * IMAGINED, views, 1280).

    Few of the classes are in the photos. So the features of some photo are moved until the class is
    likely, in the direction in which features vary with its logit: the conditional mean, if
    features were normally distributed.
    """
    rng = np.random.default_rng(0)
    centred = features - features.mean(0)
    covariance = centred.T @ centred / len(centred)
    classes = np.repeat(weights.classes - weights.classes.mean(0), IMAGINED, 0)
    directions = classes @ covariance
    variances = (directions * classes).sum(1, keepdims=True)
    found: list[Array] = []
    for _ in range(views):
        some = features[rng.integers(len(features), size=len(classes))]
        now = ((some - features.mean(0)) * classes).sum(1, keepdims=True)
        wanted = rng.uniform(*LIKELY, (len(classes), 1)) * np.sqrt(variances)
        found.append(some + directions / variances * (wanted - now))
    return np.stack(found, 1).astype(np.float32)


def _vectors(views: NDArray[np.float16], projection: Projection) -> Array:
    parts = [
        views[first : first + 1024].astype(np.float32) @ projection.weight.T + projection.bias
        for first in range(0, len(views), 1024)
    ]
    return np.concatenate(parts)
