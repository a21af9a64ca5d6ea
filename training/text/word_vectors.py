"""The word vectors that training starts from: their means are close to the photos of the texts."""

import torch
from torch import Tensor
from torch.nn import functional

from training.data.token_ids import bags_of_words
from training.learning.least_squares import ridge_word_vectors
from training.text.pairs import Pairs

# Texts in all and in a batch, and the photos that each batch's texts are compared with, at least.
TEXTS, BATCH, CANDIDATES = 60_000, 600, 4096


def fit_word_vectors(pairs: Pairs, vocabulary: int, mean: Tensor, whitening: Tensor) -> Tensor:
    """Return word vectors in the whitened space, (vocabulary, 384); their means over a text's words
    have length 1 on average.

    `mean` (384,) and `whitening` (384, 384) are those of the photos' vectors.
    """
    rows: list[Tensor] = []
    targets: list[Tensor] = []
    for _ in range(TEXTS // BATCH):
        batch = pairs.draw(BATCH, CANDIDATES)
        known = batch.targets.sum(1) > 0
        rows.append(bags_of_words(batch.ids, vocabulary)[known].to_sparse())
        photos = (batch.vectors - mean) @ whitening
        targets.append(functional.normalize(batch.targets[known] @ photos))
    return ridge_word_vectors(torch.cat(rows), torch.cat(targets))
