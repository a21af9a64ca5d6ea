"""The text tower: a small transformer over words."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.words import PAD_ID
from training.image.network import DIMENSIONS

WIDTH, HEADS, LAYERS = 256, 4, 2
DROPOUT = 0.2
# The deviation of the word vectors' entries at the start.
WORDS_STD = 0.5
# The longest text, in words.
POSITIONS = 77


class TransformerLayer(nn.Module):
    """Attention and a perceptron, each with its normalisation first (Xiong et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(3 * WIDTH, WIDTH)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        heads = self.attend(self.first_norm(x)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        weights = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + hidden
        mixed = (weights.softmax(3) @ value).transpose(1, 2).flatten(2)
        x = x + functional.dropout(self.mix(mixed), DROPOUT, self.training)
        grown = functional.gelu(self.widen(self.second_norm(x)))
        return x + functional.dropout(self.narrow(grown), DROPOUT, self.training)


class TextNetwork(nn.Module):
    """Word ids (n, words) and their mask to embeddings (n, 512), not yet of unit length.

    `whitening` (512, 512) is that of the photos' vectors: the last layer works in the whitened
    space.
    """

    def __init__(self, vocabulary: int, whitening: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD_ID)
        self.layers = nn.ModuleList(TransformerLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(2 * WIDTH, DIMENSIONS)
        # The logarithm of the learned inverse temperature.
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))
        # Checkpoints call it `spread`.
        self.register_buffer("spread", whitening)
        self.register_buffer("positions", _positions())

    @torch.no_grad()
    def start_from(self, vectors: Tensor) -> None:
        """Make a text's embedding nearly the mean of its words' vectors, (vocabulary, 512).

        The vectors' `WIDTH` largest components are kept. The transformer layers contribute nothing
        until they learn.
        """
        left, strength, right = torch.linalg.svd(vectors, full_matrices=False)
        left, right = (part[..., :WIDTH] * strength[:WIDTH].sqrt() for part in (left, right.T))
        size = left.std() / WORDS_STD
        # A vocabulary smaller than WIDTH has fewer components.
        count = left.shape[1]
        self.words.weight.zero_()[:, :count] = left / size
        self.head.weight.zero_()[:, :count] = right * size
        self.head.bias.zero_()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.words(input_ids)
        x = words + self.positions[: input_ids.shape[1]]
        x = functional.dropout(x, DROPOUT, self.training)
        present = attention_mask.unsqueeze(2).float()
        hidden = (1 - present).transpose(1, 2).unsqueeze(1) * -1e4
        for layer in self.layers:
            x = layer(x, hidden)
        both = torch.cat([words, self.norm(x)], 2)
        mean = (both * present).sum(1) / present.sum(1).clamp(min=1)
        return self.head(mean) @ self.spread


def _positions() -> Tensor:
    """Return sinusoids (Vaswani et al., 2017), small compared to the words: order says little."""
    rates = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(10_000.0) / WIDTH))
    angles = torch.arange(POSITIONS).unsqueeze(1) * rates
    return 0.1 * torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
