"""What a text tower starts from: word vectors whose means are near the photos of their texts.

Least squares find it in seconds, and gradient descent only slowly.
"""

import torch
from torch import Tensor
from torch.nn import functional

from training.text_pairs import Pairs
from training.words import PAD_ID, UNKNOWN_ID

TEXTS, BATCH, CANDIDATES = 60_000, 600, 4096
# The penalty of ridge regression (Hoerl and Kennard, 1970), as a share of the words' own variance.
PENALTY = 3.5e-4


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
    words, photos = torch.cat(rows), torch.cat(targets)
    uses = torch.sparse.sum(words, 0).to_dense()
    # Rare words say more (tf-idf: Salton and Buckley, 1988).
    rarity = torch.log(len(photos) / uses.clamp(min=1))
    rarity[[PAD_ID, UNKNOWN_ID]] = 0
    together = torch.sparse.mm(words.T, words).to_dense() * rarity * rarity[:, None]
    penalty = PENALTY * together.trace() * torch.eye(vocabulary)
    told = torch.sparse.mm(words.T, photos) * rarity[:, None]
    solved = torch.cholesky_solve(told, torch.linalg.cholesky(together + penalty))
    vectors = solved * rarity[:, None]
    texts = torch.sparse.mm(words, vectors) / torch.sparse.sum(words, 1).to_dense()[:, None]
    return vectors / texts.norm(dim=1).nanmean()
