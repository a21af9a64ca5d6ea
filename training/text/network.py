"""The text tower: a bag of words, and a perceptron on it (Iyyer et al., "Deep unordered composition
rivals syntactic methods for text classification", ACL 2015).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.words import PAD_ID
from training.lite.projection import DIMENSIONS

WIDTH, HIDDEN = 256, 512
DROPOUT = 0.2
# The deviation of the word vectors' entries at the start.
WORDS_STD = 0.5


class TextNetwork(nn.Module):
    """Word ids (n, words) and their mask to embeddings (n, 384), not yet of unit length.

    A text is the mean of its words' vectors, in which long ones count more, beside the mean of the
    same vectors at equal lengths. `whitening` (384, 384) is that of the photos' vectors: the last
    layer works in the whitened space.
    """

    def __init__(self, vocabulary: int, whitening: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD_ID)
        self.equal, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(2 * WIDTH)
        self.head = nn.Linear(2 * WIDTH, DIMENSIONS)
        self.widen, self.narrow = nn.Linear(2 * WIDTH, HIDDEN), nn.Linear(HIDDEN, DIMENSIONS)
        # The logarithm of the learned inverse temperature.
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))
        self.register_buffer("whitening", whitening)

    @torch.no_grad()
    def start_from(self, vectors: Tensor) -> None:
        """Make a text's embedding the mean of its words' vectors, (vocabulary, 384).

        The vectors' `WIDTH` largest components are kept. The rest of the network contributes
        nothing until it learns.
        """
        left, strength, right = torch.linalg.svd(vectors, full_matrices=False)
        left, right = (part[..., :WIDTH] * strength[:WIDTH].sqrt() for part in (left, right.T))
        size = left.std() / WORDS_STD
        # A vocabulary smaller than WIDTH has fewer components.
        count = left.shape[1]
        self.words.weight.zero_()[:, :count] = left / size
        self.head.weight.zero_()[:, :count] = right * size
        for layer in (self.head, self.narrow):
            layer.bias.zero_()
        self.narrow.weight.zero_()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = functional.dropout(self.words(input_ids), DROPOUT, self.training)
        present = attention_mask.unsqueeze(2).float()
        both = torch.cat([words, self.equal(words)], 2)
        bag = (both * present).sum(1) / present.sum(1).clamp(min=1)
        hidden = functional.gelu(self.widen(self.norm(bag)))
        hidden = functional.dropout(hidden, DROPOUT, self.training)
        return (self.head(bag) + self.narrow(hidden)) @ self.whitening
