"""Verified matches, measured as a search makes them: the ten nearest, each compared with the query.

With `thorough`, the two nearest of each of the query's nine tiles as well.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

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


@dataclass
class Costs:
    """Processor time in ms, per image, pair and query, and bytes per image."""

    image_ms: list[float] = field(default_factory=list[float])
    pair_ms: list[float] = field(default_factory=list[float])
    query_ms: list[float] = field(default_factory=list[float])
    image_bytes: list[int] = field(default_factory=list[int])

    def lines(self) -> list[str]:
        rows = {
            "ms per image (keypoints and pixels)": self.image_ms,
            "ms per pair": self.pair_ms,
            "ms per query with its pairs": self.query_ms,
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
    cosines: NDArray[np.float32],
    costs: Costs,
    *,
    thorough: tuple[OnnxModel, Vectors] | None = None,
) -> NDArray[np.float32]:
    """Return similarities (queries, gallery) in which exactly the verified copies reach 0.90.

    `cosines` say which images are nearest. `thorough` is the model and the gallery's vectors.
    """
    result = cosines * UNPROVED
    for row, image in enumerate(queries):
        began = time.thread_time()
        query = View.of(image)
        looks = [(query, int(place)) for place in np.argsort(-cosines[row])[:NEAREST]]
        if thorough is not None:
            looks += _looks_of_tiles(image, query, *thorough)
        for look, place in looks:
            began_pair = time.thread_time()
            found = verify(look, gallery[place])
            costs.pair_ms.append(1000 * (time.thread_time() - began_pair))
            if found is not None and found.match == "copy":
                proof = min(found.alignment.inliers, MOST_INLIERS) / MOST_INLIERS
                result[row, place] = max(result[row, place], COPY + (1 - COPY) * proof)
        costs.query_ms.append(1000 * (time.thread_time() - began))
    return result


def _looks_of_tiles(
    image: Image.Image, query: View, model: OnnxModel, vectors: Vectors
) -> list[tuple[View, int]]:
    cut = tiles(image, query)
    cosines = embed_images(model, [tile.image for tile in cut]) @ vectors.T
    return [
        (tile.view, int(place))
        for tile, row in zip(cut, cosines, strict=True)
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
