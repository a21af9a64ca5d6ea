"""The ranges of the network's feature maps, by which its 8-bit form rounds them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.encoding.efficientnet import Array, Layers
from training.lite.network import Network

# Enough; more change nothing.
PHOTOS, BATCH = 96, 8
# How much of a batch's values lie within the range. The few beyond it are clipped, which costs less
# than coarser steps for all.
WITHIN = 99.99


def ranges_of_maps(layers: Layers, images: Sequence[Image.Image]) -> Array:
    """Return the (lowest, highest) value of each map over the images: (maps, 2)."""
    names = [f"map{place}" for place in range(count_maps(layers))]
    network = Network(layers, names, ranges=None)
    lows: list[list[float]] = []
    highs: list[list[float]] = []
    for first in range(0, len(images), BATCH):
        maps = network(images[first : first + BATCH])
        lows.append([float(np.percentile(values, 100 - WITHIN)) for values in maps])
        highs.append([float(np.percentile(values, WITHIN)) for values in maps])
    return np.stack([np.min(lows, 0), np.max(highs, 0)], 1).astype(np.float32)


def count_maps(layers: Layers) -> int:
    """Return how many maps the graph of the layers has."""
    blocks = sum(2 + (block.widen is not None) + block.has_shortcut for block in layers.blocks)
    return 2 + blocks
