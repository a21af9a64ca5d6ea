"""What faces cost and how well they are found: `python -m bench.faces DATA_DIR [...]`.

DATA_DIR has the models (`FACES=vectors lookalike faces fetch`). Without more arguments, the time
and memory of a face are measured, and what indexing loses. `--counted PHOTOS CAPTIONS` compares the
faces found in photos with the people in their captions, a table of file, split and caption;
`--pairs PHOTOS PEOPLE` compares vectors: each folder in PEOPLE has photos of one person, and the
faces in PHOTOS are all taken for strangers to each other.
"""

import argparse
import asyncio
import csv
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import psutil
from PIL import Image, ImageOps
from skimage import data

from app.faces.face import LEVELS, Face, Level
from app.faces.finder import FaceFinder
from app.indexing.coalescer import gather
from app.lookalike import open_lookalike
from app.settings import read_settings
from bench.photos import make_photos

ROUNDS, PHOTOS = 2, 40
THRESHOLDS = (0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96)

ONE = r"(?:man|woman|boy|girl|lady|guy|child|kid|person|toddler|baby)"
MANY = r"(?:men|women|boys|girls|ladies|guys|children|kids|people|toddlers|babies|adults)"
TWO = re.compile(rf"\b(?:two|couple of)\b(?: [\w-]+){{0,3}} {MANY}\b")
THREE = re.compile(rf"\bthree\b(?: [\w-]+){{0,3}} {MANY}\b")
MORE = re.compile(
    rf"\b(?:four|five|six|seven|group|crowd|several|many)\b(?: [\w-]+){{0,4}} {MANY}\b|\bcrowd\b"
)
ALONE = re.compile(rf"^(?:a|an|the|one)\b(?: [\w-]+){{0,3}} {ONE}\b")
ANYONE = re.compile(rf"\b(?:{ONE}|{MANY}|player|rider|someone|team|crowd|hand|face|he|she)s?\b")


def people_in(captions: list[str]) -> str | None:
    """Return how many people captions agree on, 0 to 4+; None if they do not."""
    lower = [caption.lower() for caption in captions]
    if not any(ANYONE.search(caption) for caption in lower):
        return "0"
    for number, wanted in (("2", TWO), ("3", THREE), ("4+", MORE)):
        if sum(bool(wanted.search(caption)) for caption in lower) >= 3:
            return number
    alone = sum(bool(ALONE.search(caption)) for caption in lower)
    others = any(len(re.findall(rf"\b(?:{ONE}|{MANY})\b", caption)) > 1 for caption in lower)
    return "1" if alone >= 4 and not others else None


def counted(finder: FaceFinder, photos: Path, captions: Path) -> None:
    """Print how many faces are found in photos of so many people."""
    said: dict[str, list[str]] = defaultdict(list)
    with captions.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] == "test":
                said[row["file"]].append(row["caption"])
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for name, lines in said.items():
        number = people_in(lines)
        if number is not None:
            found[number][len(finder.find(opened(photos / name)))] += 1
    print("\npeople  photos  none  fewer  as many  more")
    for number, faces in sorted(found.items()):
        least = int(number[0])
        many = number.endswith("+")
        fewer = sum(n for count, n in faces.items() if 0 < count < least)
        same = sum(n for count, n in faces.items() if (count >= least if many else count == least))
        more = sum(n for count, n in faces.items() if count > least) if not many else 0
        none = faces[0] if least else 0
        print(f"{number:6}{faces.total():8}{none:6}{fewer:7}{same:9}{more:6}")


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def largest(faces: list[Face]) -> Face | None:
    kept = [face for face in faces if face.vector is not None]
    return max(kept, key=lambda face: face.box.width * face.box.height, default=None)


def variants(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield an image as others might have it."""
    yield "mirrored", ImageOps.mirror(image)
    yield "half the size", image.resize((image.width // 2, image.height // 2))
    yield "without its edges", ImageOps.crop(image, round(min(image.size) * 0.1))
    yield "turned by 10 degrees", image.rotate(10)
    yield "grey", ImageOps.grayscale(image).convert("RGB")


def pairs(finder: FaceFinder, photos: Path, people: Path) -> None:
    """Print the cosines of the vectors of one face, one person and of strangers."""
    persons: list[np.ndarray] = []
    same: dict[str, list[float]] = defaultdict(list)
    for folder in sorted(path for path in people.iterdir() if path.is_dir()):
        vectors: list[np.ndarray] = []
        for path in sorted(folder.iterdir()):
            image = opened(path)
            face = largest(finder.find(image))
            if face is None or face.vector is None:
                continue
            vectors.append(face.vector)
            for name, changed in variants(image):
                other = largest(finder.find(changed))
                if other is not None and other.vector is not None:
                    same[name].append(float(face.vector @ other.vector))
        persons.append(np.array(vectors))
    strangers = []
    for path in sorted(photos.iterdir()):
        face = largest(finder.find(opened(path)))
        if face is not None:
            strangers.append(face.vector)
    among = np.array(strangers)
    report("one photo, " + ", ".join(same), [c for found in same.values() for c in found])
    for name, found in same.items():
        report(f"  {name}", found)
    within = [upper(vectors @ vectors.T) for vectors in persons]
    report("one person in two photos", np.concatenate(within))
    across = [(a @ b.T).ravel() for i, a in enumerate(persons) for b in persons[:i]]
    report("two of these people", np.concatenate(across))
    report(f"strangers, {len(among)} faces", upper(among @ among.T))
    report("a person and a stranger", np.concatenate([(p @ among.T).ravel() for p in persons]))
    nearest = among @ among.T
    np.fill_diagonal(nearest, -1)
    report("a stranger's nearest stranger", nearest.max(axis=1))


def upper(cosines: np.ndarray) -> np.ndarray:
    return cosines[np.triu_indices(len(cosines), 1)]


def report(name: str, cosines: "np.ndarray | list[float]") -> None:
    found = np.asarray(cosines)
    if not len(found):
        return
    low, mid, high = np.percentile(found, (1, 50, 99))
    reached = "  ".join(f"{np.mean(found >= at):.4f}" for at in THRESHOLDS)
    print(f"{name[:40]:40}{len(found):8}  {low:.3f} {mid:.3f} {high:.3f}  {reached}")


def costs(data_dir: Path) -> None:
    """Print the processor time and the memory that each level takes for a photo with a face."""
    image = Image.fromarray(data.astronaut())
    process = psutil.Process()
    kept: list[FaceFinder] = []
    for level in LEVELS:
        before = process.memory_info().rss
        finder = FaceFinder(data_dir, level)
        finder.find(image)
        kept.append(finder)  # or its memory would be the next one's
        memory = (process.memory_info().rss - before) / 1e6
        times: list[float] = []
        for _ in range(7):
            start = process_time()
            finder.find(image)
            times.append(process_time() - start)
        print(f"{level:12}{median(times) * 1000:6.0f} ms of processor time, {memory:4.0f} MB more")


async def indexing(data_dir: Path) -> None:
    """Print the processor time of indexing a photo, by what is kept of faces."""
    photos = make_photos(PHOTOS)
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for level in ("off", "boxes"):
            spent[level].append(await indexed(data_dir, level, photos))
    for level, seconds in spent.items():
        ms = min(seconds) / PHOTOS * 1000
        print(f"{level:12}{ms:6.1f} ms an image, {min(seconds) / min(spent['off']):.2f} times")


async def indexed(data_dir: Path, level: "Level | str", photos: list[bytes]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").symlink_to(data_dir / "models")
        settings = read_settings(
            data_dir=Path(folder), encoder="builtin", database_url=None, faces=level
        )
        async with open_lookalike(settings, announce=lambda _: None) as lookalike:
            upload = lookalike.indexer.upsert_upload
            await upload(photos[0], title="")
            start = process_time()
            await gather([upload(photo, title="") for photo in photos[1:]])
            return process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--counted", nargs=2, type=Path, metavar=("PHOTOS", "CAPTIONS"))
    parser.add_argument("--pairs", nargs=2, type=Path, metavar=("PHOTOS", "PEOPLE"))
    given = parser.parse_args()
    given.data_dir = given.data_dir.resolve()
    if given.counted:
        counted(FaceFinder(given.data_dir, "boxes"), *given.counted)
    if given.pairs:
        print(f"{'':52}1%   50%   99%   at " + "    ".join(map(str, THRESHOLDS)))
        pairs(FaceFinder(given.data_dir, "vectors"), *given.pairs)
    if not (given.counted or given.pairs):
        costs(given.data_dir)
        asyncio.run(indexing(given.data_dir))


if __name__ == "__main__":
    main()
