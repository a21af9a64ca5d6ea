"""Both towers of `lite`: a linear map of the network's features, and a bag of words."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.encoding.efficientnet_graph import SHOWN_LENGTH, TOLD_LENGTH, Projection
from training.data.words import PAD_ID
from training.lite.network import FEATURES
from training.lite.projection import SHOWN, TOLD, LinearMap

DROPOUT = 0.2
# The share of a longer text's words that training drops, as people do who type queries.
DROPPED = 0.3


class Towers(nn.Module):
    """Features and texts to vectors of unit length, (n, 383), without the last dimension.

    The first part of an image's vector, what is `shown`, is given; the second, what is `told`, is
    learned together with the words. A text is the mean of its words' vectors. `features` (photos,
    1280) are of photos like those to come.
    """

    def __init__(self, vocabulary: int, shown: LinearMap, features: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, SHOWN + TOLD, padding_idx=PAD_ID)
        self.bias = nn.Parameter(torch.zeros(SHOWN + TOLD))
        self.told = nn.Linear(FEATURES, TOLD)
        # The logarithm of the learned inverse temperature.
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        mean = features.mean(0)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", (features - mean).std())
        self.register_buffer("shown_weight", torch.from_numpy(shown.weight))
        self.register_buffer("shown_bias", torch.from_numpy(shown.bias))

    def shown(self, features: Tensor) -> Tensor:
        """Return the first part of the images' vectors, (n, 192), of unit length."""
        return functional.normalize(features @ self.shown_weight.T + self.shown_bias)

    def standard(self, features: Tensor) -> Tensor:
        """Return the features with a mean of 0, and a deviation of 1 on average."""
        return (features - self.mean) / self.deviation

    def images(self, features: Tensor) -> Tensor:
        """Return the vectors of images."""
        told = functional.normalize(self.told(self.standard(features)))
        return torch.cat([SHOWN_LENGTH * self.shown(features), TOLD_LENGTH * told], 1)

    def texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors of texts by their word ids (n, words) and their mask."""
        words = functional.dropout(self.words(input_ids), DROPOUT, self.training)
        if self.training:
            is_short = attention_mask.sum(1, keepdim=True) <= 2
            attention_mask = attention_mask * (is_short | (torch.rand(input_ids.shape) > DROPPED))
        present = attention_mask.unsqueeze(2).float()
        bag = (words * present).sum(1) / present.sum(1).clamp(min=1)
        return functional.normalize(bag + self.bias)

    @torch.no_grad()
    def projection(self, bank: Tensor, level: Tensor) -> Projection:
        """Return what makes images' vectors, as the server's graph has it; see `text_bank`."""
        weight = self.told.weight / self.deviation
        bias = self.told.bias - weight @ self.mean
        largest = weight.abs().max()  # float16 is the more precise
        values = (
            self.shown_weight,
            self.shown_bias,
            weight / largest,
            bias / largest,
            bank,
            level,
        )
        return Projection(*(value.numpy() for value in values))
