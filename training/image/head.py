"""The last layer, trained once more and alone: for copies only.

What the teacher teaches draws pictures of the same kind together, which costs copies precision. The
features below the last layer keep what was learned either way, and can be computed once: so that
this layer sees every picture a hundred times in a minute.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.image.network import FEATURES, Network
from training.learning.losses import copies_loss
from training.learning.training_loop import autocast

STEPS, BATCH, RATE = 600, 1024, 3e-3


@torch.no_grad()
def features(
    network: Network, photos: Tensor, make_views: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """Return the features of each view of each photo: (views, photos, 480), float16.

    `make_views` is given the places of some photos.
    """
    network.eval()
    found: list[Tensor] = []
    # In no order, for views are pasted into their neighbours.
    order = torch.randperm(len(photos))
    for part in order.split(128):
        views = make_views(part)
        x = torch.cat(list(views)).to(memory_format=torch.channels_last)
        with autocast(x.device.type):
            pooled = network.pooling(network.maps(x)[-1])
        found.append(pooled.half().view(len(views), len(part), FEATURES))
    return torch.cat(found, 1)[:, torch.argsort(order)]


def train_head(head: nn.Linear, views: Tensor) -> None:
    """Train the layer on `features`, of which the first two are mild views and the others strong.

    A batch's own photos are its negatives, ten times as many as the whole network can be shown.
    """
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        photos = torch.randperm(views.shape[1])[:BATCH]
        mild, strong = torch.randint(2, ()), torch.randint(2, len(views), ())
        a, b = (functional.normalize(head(views[view, photos].float())) for view in (mild, strong))
        loss = copies_loss(a, b)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def turn(head: nn.Linear, features: Tensor) -> None:
    """Turn the embeddings so that their first dimensions hold as much of them as so many can.

    `features` (n, 480) are those of photos. No similarity changes; what is exported is the first
    dimensions.
    """
    vectors = functional.normalize(head(features))
    _, axes = torch.linalg.eigh(vectors.T @ vectors)
    turned = axes.flip(1).T
    head.weight.copy_(turned @ head.weight)
    head.bias.copy_(turned @ head.bias)
