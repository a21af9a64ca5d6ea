"""The features of the photos, with the network's classes: what both towers are trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from app.encoding.efficientnet import Array
from training.lite.features import read_features
from training.lite.network import Weights

# Imagined photos of each class, and how far its logit is from the mean there, in deviations,
# which is as far as in photos that do show it.
IMAGINED, LIKELY = 3, (5.0, 9.0)


class TrainingPhotos:
    """The photos' names; the features of views of each, (photos, views, 1280), in half precision;
    and the probabilities of ImageNet's classes, (photos, 1000).

    Imagined photos come last and have no names.
    """

    def __init__(self, names: Sequence[str], features: Tensor, shares: Tensor) -> None:
        self.names, self.features, self.shares = list(names), features, shares
        self.places = {name: place for place, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.features)

    def draw(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of a random view, and the classes' probabilities, of each photo."""
        views = torch.randint(self.features.shape[1], (len(photos),))
        return self.features[photos, views].float(), self.shares[photos].float()

    def whole(self) -> Tensor:
        """Return the features of the whole photos that are not imagined, (photos, 1280)."""
        return self.features[: len(self.names), 0].float()


def training_photos(out: Path, weights: Weights) -> TrainingPhotos:
    """Return the photos that `training.lite.prepare` left in `out`, and imagined ones of every
    class.
    """
    photos = read_features(out)
    whole = photos.views[:, 0].astype(np.float32)
    shown = imagined(whole, weights, photos.views.shape[1])
    shares = [weights.probabilities(whole), weights.probabilities(shown[:, 0])]
    return TrainingPhotos(
        photos.names,
        torch.from_numpy(np.concatenate([photos.views, shown.astype(np.float16)])),
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
