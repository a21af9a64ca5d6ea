"""What a text tower starts from: word vectors whose means are near the photos of their texts.

Least squares find it in seconds, and gradient descent only slowly.
"""

import torch
from torch import Tensor
from torch.nn import functional

from training.data.words import PAD_ID, UNKNOWN_ID
from training.text.pairs import Pairs

TEXTS, BATCH, CANDIDATES = 60_000, 600, 4096
# The penalty of ridge regression (Hoerl and Kennard, 1970), as a share of the words' own variance.
PENALTY = 3.5e-4
# The share of the deviation that stays in the least varied directions of the pictures' vectors.
LEAST_DEVIATION = 0.1


def fit_word_vectors(pairs: Pairs, vocabulary: int, mean: Tensor, spread: Tensor) -> Tensor:
    """Return the words' vectors, (vocabulary, 512), before `spread`; of texts they have length 1.

    `mean` is that of the pictures' vectors, (512,).
    """
    rows: list[Tensor] = []
    targets: list[Tensor] = []
    for _ in range(TEXTS // BATCH):
        batch = pairs.draw(BATCH, CANDIDATES)
        known = batch.truth.sum(1) > 0
        present = torch.zeros(len(batch.ids), vocabulary).scatter_(1, batch.ids, 1.0)
        rows.append(present[known].to_sparse())
        pictures = (batch.vectors - mean) @ spread
        targets.append(functional.normalize(batch.truth[known] @ pictures))
    return ridge(torch.cat(rows), torch.cat(targets))


def ridge(words: Tensor, photos: Tensor) -> Tensor:
    """Return words' vectors, (vocabulary, 512), whose means are near the texts' photos.

    `words` (texts, vocabulary), sparse, tells which words each text has; `photos` (texts, 512) are
    unit vectors. Of texts the means have length 1, in the mean.
    """
    uses = torch.sparse.sum(words, 0).to_dense()
    # Rare words say more (tf-idf: Salton and Buckley, 1988).
    rarity = torch.log(len(photos) / uses.clamp(min=1))
    rarity[[PAD_ID, UNKNOWN_ID]] = 0
    together = torch.sparse.mm(words.T, words).to_dense() * rarity * rarity[:, None]
    penalty = PENALTY * together.trace() * torch.eye(words.shape[1])
    told = torch.sparse.mm(words.T, photos) * rarity[:, None]
    solved = torch.cholesky_solve(told, torch.linalg.cholesky(together + penalty))
    vectors = solved * rarity[:, None]
    texts = torch.sparse.mm(words, vectors) / torch.sparse.sum(words, 1).to_dense()[:, None]
    return vectors / texts.norm(dim=1).nanmean()


def spread_of(vectors: Tensor) -> Tensor:
    """Return the (512, 512) matrix that takes the pictures' vectors' correlations back out.

    A text that differs from others in some direction then differs by as much as pictures do.
    """
    centred = vectors - vectors.mean(0)
    deviation, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    deviation = deviation.clamp(min=0).sqrt()
    kept = deviation > 1e-4 * deviation.max()
    weights = kept / (deviation + LEAST_DEVIATION * deviation.max())
    return axes * weights @ axes.T
