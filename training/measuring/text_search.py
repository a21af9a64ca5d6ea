"""Measure search by text:
`python -m training.measuring.text_search [--photos PLACE… --captions FILE] [--classes FOLDER…]`.

Captions of the test split are searched for among the photos of the test split. Names of classes are
searched for among the photos of a folder that holds one photo per class, named after it
(`golden_retriever.jpg`).
"""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import Vectors
from app.encoding.onnx_model import OnnxModel
from training.data.photos import photo_files
from training.data.tables import TEST_SPLIT, read_captions
from training.measuring.embedding import embed_images, embed_texts
from training.measuring.models import add_models, load_models


def ranks(texts: Vectors, images: Vectors, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each text's image, counted from 1; among equals, it comes last.

    `right` holds the index of each text's image.
    """
    similarities = texts @ images.T
    own = similarities[np.arange(len(right)), right]
    return (similarities >= own[:, None]).sum(1)


def caption_ranks(model: OnnxModel, photos: Sequence[Path], captions: Path) -> NDArray[np.int64]:
    """Return the rank of each test caption's photo among the photos of the test split."""
    wanted = [caption for caption in read_captions(captions) if caption.split == TEST_SPLIT]
    names = {caption.file for caption in wanted}
    images = {
        name: Image.open(BytesIO(data)).convert("RGB")
        for name, data in photo_files(photos)
        if name in names
    }
    places = {name: place for place, name in enumerate(images)}
    right = np.array([places[caption.file] for caption in wanted])
    texts = embed_texts(model, [caption.text for caption in wanted])
    return ranks(texts, embed_images(model, list(images.values())), right)


def class_ranks(model: OnnxModel, folder: Path) -> NDArray[np.int64]:
    """Return the rank of each class's photo when its name is searched for."""
    found = list(photo_files([folder]))
    names = [Path(name).stem.replace("_", " ") for name, _ in found]
    images = [Image.open(BytesIO(data)).convert("RGB") for _, data in found]
    return ranks(embed_texts(model, names), embed_images(model, images), np.arange(len(names)))


def latency_ms(model: OnnxModel, text: str) -> float:
    """Return the median time it takes to embed one text."""
    model.embed_texts([text])
    times: list[float] = []
    for _ in range(200):
        start = perf_counter()
        model.embed_texts([text])
        times.append(perf_counter() - start)
    return float(np.median(times)) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", default=[], help="folders or tar files")
    parser.add_argument("--captions", type=Path, help="tab-separated file: file, split, caption")
    parser.add_argument(
        "--classes", type=Path, nargs="*", default=[], help="folders of one photo per class"
    )
    add_models(parser, default=["builtin", "lite"])
    args = parser.parse_args()
    for name, model in load_models(args.model).items():
        print(f"{name}: {latency_ms(model, 'a brown dog runs through the snow'):.2f} ms per text")
        if args.captions:
            _print("captions", caption_ranks(model, args.photos, args.captions))
        for classes in args.classes:
            _print(f"names, {classes.name}", class_ranks(model, classes))


def _print(kind: str, found: NDArray[np.int64]) -> None:
    shares = [f"recall@{k} {np.mean(found <= k):.3f}" for k in (1, 5, 10)]
    print(f"{kind} ({len(found)}): {', '.join(shares)}, median rank {np.median(found):.0f}")


if __name__ == "__main__":
    main()
