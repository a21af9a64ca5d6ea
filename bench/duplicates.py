"""Duplicates in a folder with known copies: `python -m bench.duplicates PHOTOS [--photos N]`.

Of each photo of PHOTOS (a folder, at any depth), three copies are made: by three of the
transformations that `make eval` measures, in turns. What `lookalike duplicates` groups is compared
with what hashes within a distance group (imagehash's pHash and dHash and, if it is installed,
pdqhash), at the distances that their users take. imagededup's hashes are these pHash and dHash,
with 10 bits by default.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Any

import imagehash
import numpy as np
from PIL import Image, ImageOps

from app.lookalike import open_lookalike
from app.settings import read_settings
from app.store.images import Entry
from training.measuring.transformations import HARD, PLAIN, TRANSFORMATIONS

COPIES = 3
LONGEST_SIDE = 800
GROUPS_AT_ONCE = 100
BITS = 10
# The threshold that PDQ's description recommends.
PDQ_BITS = 31

Pair = frozenset[str]


def write_folder(photos: list[Path], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Write the photos and their copies; return the photo, and the kind, of each file, by name."""
    kinds = {**{name: TRANSFORMATIONS[name] for name in PLAIN}, **HARD}
    names = list(kinds)
    rng = np.random.default_rng(0)
    of: dict[str, str] = {}
    kind_of: dict[str, str] = {}
    for number, path in enumerate(photos):
        with Image.open(path) as opened:
            photo = ImageOps.exif_transpose(opened).convert("RGB")
        photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        with Image.open(photos[number - 1]) as opened:
            other = ImageOps.exif_transpose(opened).convert("RGB")
        other.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        files = {f"{number}.jpg": photo}
        for copy in range(COPIES):
            kind = names[(number * COPIES + copy) % len(names)]
            name = f"{number}-{copy}.jpg"
            files[name], kind_of[name] = kinds[kind](photo, rng, other), kind
        for name, image in files.items():
            image.convert("RGB").save(folder / name, quality=90)
            of[name] = str(number)
    return of, kind_of


async def grouped(files: list[Path], data_dir: Path, encoder: str) -> tuple[set[Pair], float]:
    """Return the pairs within groups of duplicates, and the seconds that finding them took."""
    settings = read_settings(data_dir=data_dir, encoder=encoder, copy_encoder="off")
    async with open_lookalike(settings, announce=print) as lookalike:
        for path in files:
            outcome = await lookalike.indexer.upsert("file", Entry(path.as_uri()))
            if outcome.problem:
                raise SystemExit(f"{path}: {outcome.problem.detail}")
        while await lookalike.keypoint_maker.make_some():
            pass
        start, cursor, pairs = perf_counter(), None, set[Pair]()
        while True:
            found = await lookalike.duplicates.find(
                cursor=cursor, limit=GROUPS_AT_ONCE, min_similarity=0.85, max_bits=64
            )
            for group in found.groups:
                names = [hit.image.url.rpartition("/")[2] for hit in group]
                pairs |= {frozenset(pair) for pair in combinations(names, 2)}
            cursor = found.next
            if cursor is None:
                return pairs, perf_counter() - start


def hashed(
    folder: Path, hash_of: Callable[[Image.Image], Any], bits: int
) -> tuple[set[Pair], float]:
    """Return the pairs whose hashes are within `bits`, and the seconds that finding them took."""
    start = perf_counter()
    hashes: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            hashes[path.name] = np.asarray(hash_of(image), bool).ravel()
    names, rows = list(hashes), np.array(list(hashes.values()))
    pairs: set[Pair] = set()
    for i, row in enumerate(rows):
        near = np.flatnonzero((rows[i + 1 :] != row).sum(axis=1) <= bits) + i + 1
        pairs |= {frozenset((names[i], names[j])) for j in near}
    return pairs, perf_counter() - start


def ways() -> Iterator[tuple[str, Callable[[Image.Image], Any], int]]:
    """Yield the hashes to compare with: name, function, distance."""
    yield f"pHash, {BITS} bits", lambda image: imagehash.phash(image).hash, BITS
    yield f"dHash, {BITS} bits", lambda image: imagehash.dhash(image).hash, BITS
    try:
        import pdqhash
    except ImportError:
        return
    yield (
        f"PDQ, {PDQ_BITS} bits",
        lambda image: pdqhash.compute(np.asarray(image.convert("RGB")))[0],
        PDQ_BITS,
    )


def show(name: str, pairs: set[Pair], seconds: float, of: Mapping[str, str]) -> None:
    """Print the precision and recall of pairs."""
    files = sorted(of)
    true = {frozenset(p) for p in combinations(files, 2) if of[p[0]] == of[p[1]]}
    right = len(pairs & true)
    precision = right / len(pairs) if pairs else 1.0
    print(
        f"{name:20} precision {precision:.3f}  recall {right / len(true):.3f}  "
        f"{1000 * seconds / len(files):6.1f} ms per image"
    )


def show_kinds(pairs: set[Pair], of: Mapping[str, str], kind_of: Mapping[str, str]) -> None:
    """Print, by kind, the share of copies that are in one group with their photo."""
    found: dict[str, list[bool]] = {}
    for name, kind in kind_of.items():
        found.setdefault(kind, []).append(frozenset((name, f"{of[name]}.jpg")) in pairs)
    for kind, hits in found.items():
        print(f"  {kind:18} {np.mean(hits):.2f} of {len(hits)}")


def show_wrong(pairs: set[Pair], of: Mapping[str, str], kind_of: Mapping[str, str]) -> None:
    """Print pairs of different photos in one group."""
    for pair in sorted(map(sorted, pairs)):
        if len({of[name] for name in pair}) == 2:
            print("  wrong: " + ", ".join(f"{n} ({kind_of.get(n, 'photo')})" for n in pair))


def main() -> None:
    """Make the folder, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", dest="number", type=int, default=100)
    parser.add_argument("--encoder", default="builtin", help="`lite` knows no copies.")
    parser.add_argument("--details", action="store_true", help="Print what is grouped wrongly.")
    asked = parser.parse_args()
    suffixes = {".jpg", ".jpeg", ".png", ".webp"}
    photos = sorted(p for p in asked.photos.rglob("*") if p.suffix.lower() in suffixes)
    photos = [photos[i] for i in np.random.default_rng(0).permutation(len(photos))]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        of, kind_of = write_folder(photos[: asked.number], folder)
        print(f"{len(of)} files, {len(of) // (COPIES + 1)} photos with {COPIES} copies each")
        for name, hash_of, bits in ways():
            show(name, *hashed(folder, hash_of, bits), of)
        files, data_dir = sorted(folder.iterdir()), Path(scratch) / "data"
        pairs, seconds = asyncio.run(grouped(files, data_dir, asked.encoder))
        show("lookalike duplicates", pairs, seconds, of)
        show_kinds(pairs, of, kind_of)
        if asked.details:
            show_wrong(pairs, of, kind_of)


if __name__ == "__main__":
    main()
