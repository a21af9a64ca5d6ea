"""The querybank: what people say of pictures, which tells how near each picture is to any text.

Some pictures are near every text, and would be among its results whatever it says ("hubs":
Radovanović et al., JMLR 2010). So what a picture has in common with the bank is taken from its
similarity with a text (Smith et al., "Inverted softmax", ICLR 2017; Bogolin et al., "Cross modal
retrieval with querybank normalisation", CVPR 2022).
"""

from pathlib import Path
from typing import NamedTuple, Self

import onnx
import torch
from onnx import numpy_helper
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

from training.image.export import BANK, SEMANTIC, SHARPNESS, in_8_bits

TEXTS = 256


class Querybank(NamedTuple):
    """Texts' embeddings, (n, 190), of unit length, and the logarithm of how much each counts."""

    texts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, texts: Tensor) -> Self:
        """Return 256 means of similar ones among texts' embeddings, (n, 512)."""
        semantic = functional.normalize(texts[:, SEMANTIC])
        means = KMeans(min(TEXTS, len(texts)), n_init=1, random_state=0).fit(semantic.numpy())
        sizes = torch.bincount(torch.from_numpy(means.labels_).long()).float()
        centres = torch.from_numpy(means.cluster_centers_).float()
        return cls(functional.normalize(centres), torch.log(sizes / len(texts)))

    def centred(self, pictures: Tensor) -> Self:
        """Return the bank by which the mean hubness of pictures' vectors, (n, 512), is 0."""
        return self._replace(counts=self.counts - SHARPNESS * self.hubness(pictures).mean())

    def hubness(self, pictures: Tensor) -> Tensor:
        """Return how near pictures' vectors, (n, 512), are to any of the texts, (n,)."""
        semantic = functional.normalize(pictures[:, SEMANTIC])
        logits = SHARPNESS * semantic @ self.texts.T + self.counts
        return logits.logsumexp(1) / SHARPNESS

    def install(self, path: Path) -> None:
        """Make an exported image tower tell the hubness by this bank."""
        small, scale = in_8_bits((SHARPNESS * self.texts).numpy())
        values = dict(zip(BANK, (small, scale, self.counts.numpy()), strict=True))
        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        onnx.save(model, str(path))
