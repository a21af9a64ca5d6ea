"""The querybank: typical texts, used to measure how close each image is to texts in general.

Some images are close to every text and would be found whatever it says ("hubs": Radovanović et al.,
JMLR 2010). So an image's closeness to the bank, its hubness, is subtracted from its similarity with
a text (Smith et al., "Inverted softmax", ICLR 2017; Bogolin et al., "Cross modal retrieval with
querybank normalisation", CVPR 2022).
"""

from pathlib import Path
from typing import NamedTuple, Self

import onnx
import torch
from onnx import numpy_helper
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

from training.image.onnx_graph import quantized
from training.image.vector_layout import BANK_NAMES, HUBNESS_SHARPNESS, SEMANTIC_PART

TEXTS = 256


class Querybank(NamedTuple):
    """Unit embeddings of texts, (n, 190), and the logarithm of how much each counts, (n,)."""

    texts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, texts: Tensor) -> Self:
        """Cluster embeddings of texts, (n, 512), into a bank of 256 means."""
        semantic = functional.normalize(texts[:, SEMANTIC_PART])
        means = KMeans(min(TEXTS, len(texts)), n_init=1, random_state=0).fit(semantic.numpy())
        sizes = torch.bincount(torch.from_numpy(means.labels_).long()).float()
        centres = torch.from_numpy(means.cluster_centers_).float()
        return cls(functional.normalize(centres), torch.log(sizes / len(texts)))

    def centred(self, images: Tensor) -> Self:
        """Return the bank for which the mean hubness of images' vectors, (n, 512), is 0."""
        mean = self.hubness(images).mean()
        return self._replace(counts=self.counts - HUBNESS_SHARPNESS * mean)

    def hubness(self, images: Tensor) -> Tensor:
        """Return how close images' vectors, (n, 512), are to the bank's texts, (n,)."""
        semantic = functional.normalize(images[:, SEMANTIC_PART])
        logits = HUBNESS_SHARPNESS * semantic @ self.texts.T + self.counts
        return logits.logsumexp(1) / HUBNESS_SHARPNESS

    def install(self, path: Path) -> None:
        """Make the exported image tower at `path` compute the hubness with this bank."""
        small, scale = quantized((HUBNESS_SHARPNESS * self.texts).numpy())
        values = dict(zip(BANK_NAMES, (small, scale, self.counts.numpy()), strict=True))
        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
        onnx.save(model, str(path))
