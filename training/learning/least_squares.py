"""Word vectors by ridge regression, and whitening: solved in seconds, where gradient descent is
slow.
"""

import torch
from torch import Tensor

from training.data.words import PAD_ID, UNKNOWN_ID

# The penalty of ridge regression (Hoerl and Kennard, 1970), as a share of the words' own variance.
PENALTY = 3.5e-4
# How much is added to every deviation before whitening divides by it, as a share of the largest.
LEAST_DEVIATION = 0.1


def ridge_word_vectors(words: Tensor, photos: Tensor) -> Tensor:
    """Return word vectors, (vocabulary, 384), such that the mean over a text's words is close to
    its photo.

    `words` (texts, vocabulary), sparse, says which words each text has; `photos` (texts, 384) are
    unit vectors. The texts' means have length 1 on average.
    """
    uses = torch.sparse.sum(words, 0).to_dense()
    # Rare words say more (tf-idf: Salton and Buckley, 1988).
    rarity = torch.log(len(photos) / uses.clamp(min=1))
    rarity[[PAD_ID, UNKNOWN_ID]] = 0
    together = torch.sparse.mm(words.T, words).to_dense() * rarity * rarity[:, None]
    penalty = PENALTY * together.trace() * torch.eye(words.shape[1])
    observed = torch.sparse.mm(words.T, photos) * rarity[:, None]
    solved = torch.cholesky_solve(observed, torch.linalg.cholesky(together + penalty))
    vectors = solved * rarity[:, None]
    texts = torch.sparse.mm(words, vectors) / torch.sparse.sum(words, 1).to_dense()[:, None]
    return vectors / texts.norm(dim=1).nanmean()


def whitening(vectors: Tensor) -> Tensor:
    """Return the (384, 384) matrix that removes the correlations between the vectors' dimensions.

    A difference in any direction then counts relative to how much the vectors vary in it.
    """
    centred = vectors - vectors.mean(0)
    deviation, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    deviation = deviation.clamp(min=0).sqrt()
    kept = deviation > 1e-4 * deviation.max()
    weights = kept / (deviation + LEAST_DEVIATION * deviation.max())
    return axes * weights @ axes.T
