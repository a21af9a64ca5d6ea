"""Text to picture search:
`python -m training.measuring.text_search [--photos PLACE… --captions FILE] …`.

Captions: each of the test split's against its photos. Classes: each name of a folder that holds one
picture per class, named after it (`golden_retriever.jpg`), against all of them.
"""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import unit
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from training.data.photos import TEST_SPLIT, files, read_captions
from training.measuring.copies import Floats, embed


def ranks(texts: Floats, pictures: Floats, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank, from 1 on, of each text's picture; of equals, it comes last."""
    similarities = texts @ pictures.T
    own = similarities[np.arange(len(right)), right]
    return (similarities >= own[:, None]).sum(1)


def embed_texts(model: OnnxModel, texts: Sequence[str]) -> Floats:
    """Return the unit vectors of texts: (n, dimensions)."""
    return unit(
        np.concatenate([model.embed_texts(texts[i : i + 64]) for i in range(0, len(texts), 64)])
    )


def caption_ranks(model: OnnxModel, photos: Sequence[Path], captions: Path) -> NDArray[np.int64]:
    """Return the rank of each test caption's photo among the test photos."""
    wanted = [caption for caption in read_captions(captions) if caption.split == TEST_SPLIT]
    names = {caption.file for caption in wanted}
    pictures = {
        name: Image.open(BytesIO(data)).convert("RGB")
        for name, data in files(photos)
        if name in names
    }
    places = {name: place for place, name in enumerate(pictures)}
    right = np.array([places[caption.file] for caption in wanted])
    texts = embed_texts(model, [caption.text for caption in wanted])
    return ranks(texts, embed(model, list(pictures.values())), right)


def class_ranks(model: OnnxModel, folder: Path) -> NDArray[np.int64]:
    """Return the rank of each class's picture among all, for its name."""
    found = list(files([folder]))
    names = [Path(name).stem.replace("_", " ") for name, _ in found]
    pictures = [Image.open(BytesIO(data)).convert("RGB") for _, data in found]
    return ranks(embed_texts(model, names), embed(model, pictures), np.arange(len(names)))


def latency_ms(model: OnnxModel, text: str) -> float:
    """Return the median time that one text takes."""
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
    parser.add_argument("--captions", type=Path, help="tab-separated: file, split, caption")
    parser.add_argument("--classes", type=Path, nargs="*", default=[], help="folders")
    parser.add_argument("--model", type=Path, nargs="*", default=[BUILTIN_DIRECTORY])
    given = parser.parse_args()
    for folder in given.model:
        model = OnnxModel(folder, name=folder.name)
        print(f"{folder}: {latency_ms(model, 'a brown dog runs through the snow'):.2f} ms a text")
        if given.captions:
            _print("captions", caption_ranks(model, given.photos, given.captions))
        for classes in given.classes:
            _print(f"names, {classes.name}", class_ranks(model, classes))


def _print(kind: str, found: NDArray[np.int64]) -> None:
    shares = [f"recall@{k} {np.mean(found <= k):.3f}" for k in (1, 5, 10)]
    print(f"{kind} ({len(found)}): {', '.join(shares)}, median rank {np.median(found):.0f}")


if __name__ == "__main__":
    main()
