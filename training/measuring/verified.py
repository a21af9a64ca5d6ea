"""Verified matches, measured as a search makes them: the ten nearest, each compared with the query.

With `thorough`, the two nearest of each of the query's nine tiles as well.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import Vectors
from app.encoding.onnx_model import OnnxModel
from app.pictures.decoding import THUMBNAIL_SIDE, jpeg
from app.pictures.keypoints import Keypoints
from app.pictures.tiles import tiles
from app.pictures.views import View, reduced
from app.search.verification import VerifiedMatch, verify
from training.measuring.embedding import embed_images

NEAREST, NEAREST_OF_TILE = 10, 2
# Copies are ranked by their inliers above every similarity that is not proved, from the server's
# threshold of 0.90 on.
COPY, UNPROVED = 0.9, 0.4
MOST_INLIERS = 1000

# (queries, gallery)
Similarities: TypeAlias = NDArray[np.float32]
# By their places in the gallery.
Proofs: TypeAlias = dict[int, float]


@dataclass
class Costs:
    """Processor time in ms, per image, pair and query, and bytes per image."""

    image_ms: list[float] = field(default_factory=list[float])
    pair_ms: list[float] = field(default_factory=list[float])
    query_ms: list[float] = field(default_factory=list[float])
    parts_ms: list[float] = field(default_factory=list[float])
    image_bytes: list[int] = field(default_factory=list[int])

    def lines(self) -> list[str]:
        rows = {
            "ms per image (keypoints and pixels)": self.image_ms,
            "ms per pair": self.pair_ms,
            "ms per query with its pairs": self.query_ms,
            "ms more for its parts (thorough)": self.parts_ms,
            "bytes per image": self.image_bytes,
        }
        return [
            f"{name:40}{np.mean(values):10.1f} mean{np.median(values):10.1f} median"
            for name, values in rows.items()
            if values
        ]


def stored(image: Image.Image, costs: Costs) -> View:
    """Return an image as the index holds it: keypoints as bytes, pixels as a thumbnail."""
    began = time.thread_time()
    view = View.of(image)
    costs.image_ms.append(1000 * (time.thread_time() - began))
    data = view.keypoints.to_bytes()
    costs.image_bytes.append(len(data))
    keypoints = Keypoints.from_bytes(data)
    assert keypoints is not None
    thumbnail = jpeg(reduced(image, THUMBNAIL_SIDE))
    return View(view.width, view.height, keypoints, thumbnail, view.dhash, view.too_plain)


def verified_similarities(
    queries: Sequence[Image.Image],
    gallery: Sequence[View],
    cosines: Similarities,
    places: NDArray[np.int64],
    costs: Costs,
    *,
    thorough: tuple[OnnxModel, Vectors] | None = None,
) -> tuple[Similarities, Similarities]:
    """Return similarities (queries, gallery) in which exactly the verified copies reach 0.90.

    `cosines` say which images are nearest, and `places` which one is right, or -1. `thorough` is
    the model and the gallery's vectors; with it, the second ones are those of a search for parts as
    well, unless the right image is proved already. Each core takes queries.
    """

    def compared(row: int) -> tuple[Proofs, Proofs]:
        began = time.thread_time()
        query = View.of(queries[row])
        nearest = [(query, int(place)) for place in np.argsort(-cosines[row])[:NEAREST]]
        whole = _proofs(nearest, gallery, costs.pair_ms)
        costs.query_ms.append(1000 * (time.thread_time() - began))
        if thorough is None or places[row] in whole:
            return whole, whole
        began = time.thread_time()
        parts = _proofs(_looks_of_tiles(queries[row], query, *thorough), gallery, costs.pair_ms)
        costs.parts_ms.append(1000 * (time.thread_time() - began))
        return whole, {i: max(p.get(i, 0) for p in (whole, parts)) for i in whole | parts}

    result = cosines * UNPROVED, cosines * UNPROVED
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for row, both in enumerate(threads.map(compared, range(len(queries)))):
            for similarities, proofs in zip(result, both, strict=True):
                for place, proof in proofs.items():
                    similarities[row, place] = proof
    return result


def _proofs(
    looks: Sequence[tuple[View, int]], gallery: Sequence[View], pair_ms: list[float]
) -> Proofs:
    """Return the places of the copies, each with a similarity that tells how well it is proved."""
    proofs: Proofs = {}
    for look, place in looks:
        began = time.thread_time()
        found = verify(look, gallery[place])
        pair_ms.append(1000 * (time.thread_time() - began))
        if found is not None and found.match == "copy":
            proof = min(found.alignment.inliers, MOST_INLIERS) / MOST_INLIERS
            proofs[place] = max(proofs.get(place, 0), COPY + (1 - COPY) * proof)
    return proofs


def _looks_of_tiles(
    image: Image.Image, query: View, model: OnnxModel, vectors: Vectors
) -> list[tuple[View, int]]:
    cut = tiles(image, query)
    cosines = embed_images(model, [tile.image for tile in cut]) @ vectors.T
    return [
        (look, int(place))
        for look, row in zip([tile.look() for tile in cut], cosines, strict=True)
        for place in np.argsort(-row)[:NEAREST_OF_TILE]
    ]


@dataclass(frozen=True)
class Wrong:
    """Of so many queries, those with an image that is wrongly called a copy, or a scene.

    `edited` are copies that are called edited; they are not among `copies`.
    """

    queries: int
    copies: int
    edited: int
    scenes: int


def wrong_among_nearest(views: Sequence[View], cosines: NDArray[np.float32], count: int) -> Wrong:
    """Compare each of the first `count` with its ten nearest, none of which is a copy."""
    found = [
        {_answer(view, views[int(i)]) for i in np.argsort(-row)[: NEAREST + 1] if int(i) != place}
        for place, (view, row) in enumerate(zip(views[:count], cosines, strict=False))
    ]
    return _counted(found)


def wrong_pairs(series: Sequence[Sequence[View]]) -> Wrong:
    """Compare the images of each series with each other; a query is a pair."""
    found = [
        {_answer(one, other)}
        for views in series
        for i, one in enumerate(views)
        for other in views[:i]
    ]
    return _counted(found)


def _answer(query: View, image: View) -> VerifiedMatch | str | None:
    found = verify(query, image)
    return found and ("edited" if found.match == "copy" and found.alignment.edited else found.match)


def _counted(found: Sequence[set[VerifiedMatch | str | None]]) -> Wrong:
    copies = [each for each in found if "copy" in each]
    edited = [each for each in found if "edited" in each and "copy" not in each]
    scenes = [each for each in found if "scene" in each and not each & {"copy", "edited"}]
    return Wrong(len(found), len(copies), len(edited), len(scenes))
