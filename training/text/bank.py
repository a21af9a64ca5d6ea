"""The querybank: means of texts, to which an image's last dimension says how close it is."""

import torch
from torch import Tensor
from torch.nn import functional

from app.encoding.efficientnet_graph import BANK_SHARPNESS
from training.text.network import Towers
from training.text.pairs import Pairs

# Texts in all and in a batch; the means, and how often they are made anew (Lloyd, 1982).
TEXTS, BATCH, MEANS, ROUNDS = 24_000, 600, 256, 15


@torch.no_grad()
def text_bank(towers: Towers, pairs: Pairs) -> Tensor:
    """Return means of texts' vectors, of unit length: (256, 383), or fewer of fewer texts."""
    towers.eval()
    drawn = [pairs.draw(BATCH, 1) for _ in range(TEXTS // BATCH)]
    texts = torch.cat([towers.texts(batch.ids, batch.mask) for batch in drawn]).unique(dim=0)
    means = texts[torch.randperm(len(texts))[:MEANS]]
    for _ in range(ROUNDS):
        nearest = functional.one_hot((texts @ means.T).argmax(1), len(means)).float()
        means = functional.normalize(nearest.T @ texts)
        means = means[means.norm(dim=1) > 0]
    return means


@torch.no_grad()
def usual_level(towers: Towers, bank: Tensor, features: Tensor) -> Tensor:
    """Return how close photos are to the bank on average, a number; `features` (photos, 1280)."""
    towers.eval()
    similarities = torch.cat([towers.images(part) @ bank.T for part in features.split(1024)])
    return (BANK_SHARPNESS * similarities).logsumexp(1).mean() / BANK_SHARPNESS
