"""Compare lite's graph with torch's network:
`python -m training.measuring.reference --photos PLACE…`.

The reference is the package efficientnet_lite_pytorch with the same weights. The least cosine of
both pooled features of a photo is printed, and that of the 8-bit vectors with those in float32.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from app.encoding.efficientnet import Array
from app.encoding.encoder import unit
from app.encoding.lite import SIDE, weights_file
from app.encoding.onnx_model import INT8, OnnxModel
from training.data.photos import photo_files
from training.lite.features import opened
from training.lite.network import PREPROCESSING, Network, Weights
from training.measuring.embedding import embed_images
from training.measuring.models import lite_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders or tar files"
    )
    parser.add_argument("--count", type=int, default=32, help="how many photos")
    args = parser.parse_args()
    images = [opened(data) for _, data in islice(photo_files(args.photos), args.count)]
    pixels = np.stack([PREPROCESSING(image) for image in images])
    [ours] = Network(Weights().layers, ["features"], ranges=None)(images)
    print(f"graph and torch: {_least_cosine(ours, _features_by_torch(pixels)):.6f}")
    folder = lite_folder()
    full = embed_images(OnnxModel(folder, name="fp32"), images)
    small = embed_images(OnnxModel(folder, name="int8", vision=folder / INT8), images)
    cosines = (full * small).sum(1)
    print(f"int8 and fp32: {cosines.min():.4f}, mean {cosines.mean():.4f}")


@torch.no_grad()
def _features_by_torch(pixels: Array) -> Array:
    network = EfficientNet.from_name("efficientnet-lite2", image_size=SIDE)
    with weights_file() as path:
        network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval().extract_features(torch.from_numpy(pixels)).mean((2, 3)).numpy()


def _least_cosine(a: Array, b: Array) -> float:
    return float((unit(a) * unit(b)).sum(1).min())


if __name__ == "__main__":
    main()
