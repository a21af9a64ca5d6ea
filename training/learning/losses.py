"""The losses: contrast, with one or with many that are true, and spread."""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05
# The weight of the spread beside the contrast.
SPREAD = 0.5


def copies_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return what two views of each photo, unit vectors (n, 512) row by row, are trained with."""
    contrasted = (contrast(a, b, TEMPERATURE) + contrast(b, a, TEMPERATURE)) / 2
    return contrasted + SPREAD * (spread(a, b) + spread(b, a)) / 2


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return the mean InfoNCE of each of `a` with its row of `b`; all other rows are negatives.

    NT-Xent of SimCLR (Chen et al., ICML 2020), one direction.
    """
    count = torch.arange(len(a))
    own = torch.full((len(a), 2 * len(a)), False)
    own[count, len(a) + count] = True
    logits = (a @ torch.cat([b, a]).T / temperature).masked_fill(own, -torch.inf)
    return functional.cross_entropy(logits, count)


def spread(a: Tensor, b: Tensor) -> Tensor:
    """Minus the mean log distance of `a` to the nearest view of another photo.

    Kozachenko and Leonenko's estimator of the differential entropy, as SSCD uses it (Pizzi et al.,
    CVPR 2022).
    """
    everything = torch.cat([b, a])
    same = torch.eye(len(a), dtype=torch.bool).repeat(1, 2)
    with torch.no_grad():
        nearest = (a @ everything.T).masked_fill(same, -2).argmax(1)
    return -torch.log((a - everything[nearest]).norm(dim=1) + 1e-4).mean()


def info_nce(logits: Tensor, truth: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy of each row's truth, in shares of 1, with its logits.

    InfoNCE (van den Oord et al., 2018), perhaps with label smoothing (Szegedy et al., 2016). Rows
    of which nothing is true do not count.
    """
    known = truth.sum(1) > 0
    log_shares = logits[known].log_softmax(1)
    told = -(truth[known] * log_shares).sum(1)
    return ((1 - smoothing) * told - smoothing * log_shares.mean(1)).mean()
