"""What `copy` catches and what it gets wrong: `python -m bench.matches [FOLDER_OF_PHOTOS]`.

For photos (the demo's by default) with common alterations: the share whose original is the first
result, has a similarity of at least 0.90, and is called a copy, at several limits of the difference
hash; and how many pairs of different photos are called copies.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.pictures.decoding import SUFFIXES, Picture, decode, hamming
from app.problems import Problem
from demo.__main__ import sample_photos
from training.measuring.embedding import embed_images

MOST_PHOTOS = 1000
BITS = (4, 6, 8, 10, 12, 14, 16)

# What a copy was taken for before it was proved.
COPY_SIMILARITY, COPY_DHASH_BITS = 0.90, 10


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(BytesIO(out.getvalue()))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half size, JPEG 30": lambda image: jpeg(ImageOps.scale(image, 0.5), 30),
    "0.3 x size": lambda image: ImageOps.scale(image, 0.3),
    "JPEG 15": lambda image: jpeg(image, 15),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "blur, 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "5% cut off": lambda image: ImageOps.crop(image, border=round(min(image.size) * 0.025)),
    "mirrored": ImageOps.mirror,
}


def read(paths: list[Path]) -> list[Picture]:
    pictures: list[Picture] = []
    for path in paths:
        try:
            pictures.append(decode(path.read_bytes(), max_pixels=10**8))
        except Problem as problem:
            print(f"skipped: {path}: {problem.detail}")
    return pictures


def altered(pictures: list[Picture], alter: Callable[[Image.Image], Image.Image]) -> list[Picture]:
    changed: list[Picture] = []
    for picture in pictures:
        out = BytesIO()
        alter(picture.image).save(out, "PNG", compress_level=1)
        changed.append(decode(out.getvalue(), max_pixels=10**8))
    return changed


def main() -> None:
    if len(sys.argv) > 1:
        found = [p for p in sorted(Path(sys.argv[1]).rglob("*")) if p.suffix.lower() in SUFFIXES]
        paths = found[:: max(1, len(found) // MOST_PHOTOS)]
    else:
        paths = list(sample_photos().values())
    pictures = read(paths)
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")
    gallery = embed_images(model, [picture.image for picture in pictures])
    hashes = [picture.dhash for picture in pictures]

    print(f"{len(pictures)} photos, thresholds: {COPY_SIMILARITY}, {COPY_DHASH_BITS} bits\n")
    print(f"{'altered':20}{'first':>8}{'>= 0.90':>8}   called a copy, at a limit of ... bits")
    print(f"{'':36}" + "".join(f"{bits:>8}" for bits in BITS))
    for name, alter in ALTERATIONS.items():
        queries = altered(pictures, alter)
        similarities = embed_images(model, [query.image for query in queries]) @ gallery.T
        own = similarities.diagonal()
        passes = own >= COPY_SIMILARITY
        distance = np.array([hamming(q.dhash, h) for q, h in zip(queries, hashes, strict=True)])
        first = (similarities.argmax(axis=1) == np.arange(len(own))).mean()
        shares = [(passes & (distance <= bits)).mean() for bits in BITS]
        print(f"{name:20}{first:8.3f}{passes.mean():8.3f}" + "".join(f"{s:8.3f}" for s in shares))

    i, j = np.triu_indices(len(pictures), 1)
    near = (gallery @ gallery.T)[i, j] >= COPY_SIMILARITY
    pairs = [(int(a), int(b)) for a, b in zip(i[near], j[near], strict=True)]
    distances = np.array([hamming(hashes[a], hashes[b]) for a, b in pairs])
    counts = [int((distances <= bits).sum()) if len(pairs) else 0 for bits in BITS]
    print(f"\npairs of different photos: {len(i)}; at least {COPY_SIMILARITY}: {len(pairs)}")
    print(f"{'called a copy':36}" + "".join(f"{count:>8}" for count in counts))


if __name__ == "__main__":
    main()
