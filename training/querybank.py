"""The querybank: what people say of pictures, which tells how near each picture is to any text.

Some pictures are near every text, and would be among its results whatever it says ("hubs":
Radovanović et al., JMLR 2010). So what a picture has in common with the bank is taken from its
similarity with a text (Smith et al., "Inverted softmax", ICLR 2017; Bogolin et al., "Cross modal
retrieval with querybank normalisation", CVPR 2022).
"""

from typing import NamedTuple, Self

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

TEXTS = 256
# The inverse temperature at which near texts count more than others.
SHARPNESS = 12.0


class Querybank(NamedTuple):
    """Texts' embeddings, (n, size), of unit length, and the logarithm of how much each counts."""

    texts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, texts: Tensor) -> Self:
        """Return 256 means of similar ones among texts' embeddings, (n, size)."""
        means = KMeans(min(TEXTS, len(texts)), n_init=1, random_state=0).fit(texts.numpy())
        sizes = torch.bincount(torch.from_numpy(means.labels_).long()).float()
        centres = torch.from_numpy(means.cluster_centers_).float()
        return cls(functional.normalize(centres), torch.log(sizes / len(texts)))

    def first(self, dimensions: int) -> Self:
        """Return the bank for the first dimensions of embeddings."""
        return self._replace(texts=functional.normalize(self.texts[:, :dimensions]))

    def turned(self, axes: Tensor) -> Self:
        """Return the bank for embeddings that were multiplied by the matrix `axes`."""
        return self._replace(texts=self.texts @ axes.T)

    def centred(self, embeddings: Tensor) -> Self:
        """Return the bank by which the mean hubness of those embeddings is 0."""
        return self._replace(counts=self.counts - SHARPNESS * self.hubness(embeddings).mean())

    def hubness(self, embeddings: Tensor) -> Tensor:
        """Return how near embeddings, (n, size), of unit length, are to any of the texts, (n,)."""
        logits = SHARPNESS * embeddings @ self.texts.T + self.counts
        return logits.logsumexp(1) / SHARPNESS
