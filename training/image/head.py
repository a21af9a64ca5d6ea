"""The last layer, trained once more on its own, for copies only.

Distillation draws images of the same kind together, which costs precision on copies. The features
below the last layer keep what was learned either way. They are computed only once, so that this
layer sees every photo a hundred times a minute.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.image.network import FEATURES, CopyNetwork
from training.learning.losses import copies_loss
from training.learning.training_loop import autocast

STEPS, BATCH, RATE = 600, 1024, 3e-3


@torch.no_grad()
def features_of_views(
    network: CopyNetwork, photos: Tensor, make_views: Callable[[Tensor], Sequence[Tensor]]
) -> Tensor:
    """Return the features of each view of each photo: (views, photos, 480), float16.

    `make_views` takes indices of photos and returns their views.
    """
    network.eval()
    found: list[Tensor] = []
    # In random order, since views are pasted into their neighbours in the batch.
    order = torch.randperm(len(photos))
    for part in order.split(128):
        views = make_views(part)
        x = torch.cat(list(views)).to(memory_format=torch.channels_last)
        with autocast(x.device.type):
            pooled = network.pooling(network.maps(x)[-1])
        found.append(pooled.half().view(len(views), len(part), FEATURES))
    return torch.cat(found, 1)[:, torch.argsort(order)]


def train_head(head: nn.Linear, views: Tensor) -> None:
    """Train the layer on features of views, of which the first two are mild and the rest strong.

    The other photos of a batch are the negatives, ten times as many as when the whole network is
    trained.
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
def rotate_to_principal_axes(head: nn.Linear, features: Tensor) -> None:
    """Rotate the embeddings so that each dimension holds more of them than the next.

    Only the first dimensions are exported. `features` (n, 480) are those of photos. No similarity
    changes.
    """
    vectors = functional.normalize(head(features))
    _, axes = torch.linalg.eigh(vectors.T @ vectors)
    rotation = axes.flip(1).T
    head.weight.copy_(rotation @ head.weight)
    head.bias.copy_(rotation @ head.bias)
