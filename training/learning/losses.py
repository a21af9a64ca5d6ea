"""The losses: contrastive ones, with one positive or with several, and entropy."""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05
# The weight of the entropy loss relative to the contrastive one.
ENTROPY_WEIGHT = 0.5


def copies_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return the loss of two views of each photo, unit vectors (n, 512), matched row by row."""
    contrastive = (one_positive(a, b, TEMPERATURE) + one_positive(b, a, TEMPERATURE)) / 2
    return contrastive + ENTROPY_WEIGHT * (entropy(a, b) + entropy(b, a)) / 2


def one_positive(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE of `a` whose positive is the same row of `b`; all other rows are
    negatives.

    NT-Xent of SimCLR (Chen et al., ICML 2020), in one direction.
    """
    count = torch.arange(len(a))
    own = torch.full((len(a), 2 * len(a)), False)
    own[count, len(a) + count] = True
    logits = (a @ torch.cat([b, a]).T / temperature).masked_fill(own, -torch.inf)
    return functional.cross_entropy(logits, count)


def entropy(a: Tensor, b: Tensor) -> Tensor:
    """Return minus the mean log distance of `a` to the nearest view of another photo.

    Kozachenko and Leonenko's estimator of the differential entropy, as SSCD uses it (Pizzi et al.,
    CVPR 2022).
    """
    everything = torch.cat([b, a])
    same = torch.eye(len(a), dtype=torch.bool).repeat(1, 2)
    with torch.no_grad():
        nearest = (a @ everything.T).masked_fill(same, -2).argmax(1)
    return -torch.log((a - everything[nearest]).norm(dim=1) + 1e-4).mean()


def many_positives(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy of each row's logits with its targets, which sum to 1.

    InfoNCE (van den Oord et al., 2018) with soft targets and optional label smoothing (Szegedy et
    al., 2016). Rows whose targets are all 0 are left out.
    """
    known = targets.sum(1) > 0
    log_shares = logits[known].log_softmax(1)
    cross_entropy = -(targets[known] * log_shares).sum(1)
    return ((1 - smoothing) * cross_entropy - smoothing * log_shares.mean(1)).mean()
