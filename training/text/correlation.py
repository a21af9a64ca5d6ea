"""What training starts from: how words and features correlate, solved in seconds, where gradient
descent is slow.
"""

import torch
from torch import Tensor

from training.data.token_ids import bags_of_words
from training.data.words import PAD_ID, UNKNOWN_ID
from training.lite.projection import TOLD
from training.text.network import Towers
from training.text.pairs import Pairs

# Texts in all and in a batch, and the photos that each batch's texts are compared with, at least.
TEXTS, BATCH, CANDIDATES = 72_000, 600, 4096
SHARES = {"captions": 0.5, "names": 0.35, "labels": 0.15}
# The penalties of ridge regression (Hoerl and Kennard, 1970): for words, per text; for features, a
# share of their mean variance.
WORDS_PENALTY, FEATURES_PENALTY = 2.7e-4, 0.5
# The deviation of the word vectors' entries, and how much less a text's first part counts.
DEVIATION, SHOWN = 0.5, 1.0


@torch.no_grad()
def start(towers: Towers, pairs: Pairs) -> None:
    """Set the towers' weights.

    For the part that is given, words get the vectors whose means are closest to the photos; for the
    other, canonical correlation of words and features (Hotelling, 1936), of captions if there are
    any: a name says less of a photo.
    """
    vocabulary = len(towers.words.weight)
    words, features, are_captions = _drawn(pairs, vocabulary)
    rarity = _rarity(words)
    bags = _weighted(words, rarity)
    shown = towers.shown(features)
    by_shown = _solved(bags, shown - shown.mean(0))
    if are_captions.any():
        rows = are_captions.nonzero()[:, 0]
        bags, features = bags.index_select(0, rows), features[rows]
    features = towers.standard(features)
    by_words = _solved(bags, features)
    axes, correlations = _correlated(features, torch.sparse.mm(bags, by_words))
    told = axes * correlations.sqrt()
    towers.told.weight.copy_((told / (features @ told).std()).T)
    towers.told.bias.zero_()
    parts = (SHOWN * _of_unit_texts(bags, by_shown), _of_unit_texts(bags, by_words @ axes))
    vectors = torch.cat(parts, 1) * rarity[:, None]
    towers.words.weight.copy_(vectors / vectors.std() * DEVIATION)


def _drawn(pairs: Pairs, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the words of texts, 1 or 0: (texts, vocabulary), sparse; the mean features of the
    photos they describe, (texts, 1280); and whether they are captions.
    """
    rows: list[Tensor] = []
    means: list[Tensor] = []
    captions: list[Tensor] = []
    for _ in range(TEXTS // BATCH):
        batch = pairs.draw(BATCH, CANDIDATES, SHARES)
        known = batch.targets.sum(1) > 0
        rows.append(bags_of_words(batch.ids, vocabulary)[known].to_sparse())
        means.append(batch.targets[known] @ batch.features)
        captions.append((torch.arange(len(known)) < len(batch.own))[known])
    return torch.cat(rows), torch.cat(means), torch.cat(captions)


def _solved(bags: Tensor, wanted: Tensor) -> Tensor:
    """Return the words' vectors by ridge regression, such that bags @ vectors is like `wanted`."""
    together = torch.sparse.mm(bags.T, bags).to_dense()
    together.diagonal().add_(WORDS_PENALTY * len(wanted))
    return torch.cholesky_solve(torch.sparse.mm(bags.T, wanted), torch.linalg.cholesky(together))


def _correlated(features: Tensor, explained: Tensor) -> tuple[Tensor, Tensor]:
    """Return the directions of features that correlate most with what words explain of them, (1280,
    191), and how much they do, (191,).
    """
    variances = features.T @ features
    penalty = FEATURES_PENALTY * variances.diagonal().mean()
    root = torch.linalg.cholesky(variances + penalty * torch.eye(len(variances)))
    whiten = torch.linalg.solve_triangular(root, torch.eye(len(root)), upper=False).T
    both = features.T @ explained
    correlations, axes = torch.linalg.eigh(whiten.T @ (both + both.T) @ whiten / 2)
    return whiten @ axes.flip(1)[:, :TOLD], correlations.flip(0)[:TOLD].clamp(min=1e-6)


def _rarity(words: Tensor) -> Tensor:
    """Return how much each word says: rare ones say more (tf-idf: Salton and Buckley, 1988)."""
    uses = torch.sparse.sum(words, 0).to_dense()
    rarity = torch.log(len(words) / uses.clamp(min=1))
    rarity[[PAD_ID, UNKNOWN_ID]] = 0
    return rarity


def _weighted(words: Tensor, rarity: Tensor) -> Tensor:
    """Return the rows of words, each word by its rarity, at unit length; sparse."""
    words = words.coalesce()
    texts, of = words.indices()
    values = rarity[of]
    lengths = torch.zeros(len(words)).index_add_(0, texts, values**2).sqrt().clamp(min=1e-6)
    values = values / lengths[texts]
    return torch.sparse_coo_tensor(words.indices(), values, words.shape, check_invariants=False)


def _of_unit_texts(bags: Tensor, vectors: Tensor) -> Tensor:
    """Return word vectors scaled so that the texts' have length 1 on average."""
    return vectors / torch.sparse.mm(bags, vectors).norm(dim=1).mean()
