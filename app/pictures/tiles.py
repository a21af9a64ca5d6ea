"""Tiles of a query, for finding pictures within it: in a screenshot, a collage or a page.

The vector of a whole page says little about a small picture on it. So each of 3 x 3 tiles, half a
side each, is searched for by itself, and what it finds is verified by the tile's own keypoints.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from app.pictures.decoding import Crop
from app.pictures.keypoints import Keypoints, find_keypoints
from app.pictures.shown import Shown
from app.pictures.views import View, pixels_of

SIDE = 0.5
PLACES = (0.0, 0.25, 0.5)
TILES = tuple(Crop(x, y, SIDE, SIDE) for y in PLACES for x in PLACES)
# Pixels of the whole query are compared at this short side, so that a part has some, too.
SHORT_SIDE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A part of a query: where it is, its pixels (for the encoder), and how verification sees it.

    `view` is the whole query, seen by the keypoints of the tile only. So what `verify` tells of it
    is about the whole query.
    """

    place: Crop
    image: Image.Image
    view: View


def tiles(image: Image.Image, whole: View) -> list[Tile]:
    """Cut an RGB image, of which `whole` is the view, into nine tiles; about 15 ms each.

    The larger the image, the smaller the pictures that are found in it.
    """
    shown = Shown(pixels_of(image, SHORT_SIDE))
    cut: list[Tile] = []
    for place in TILES:
        part = place.of(image)
        keypoints = _in_whole(find_keypoints(part), place)
        cut.append(Tile(place, part, whole.seeing(keypoints, shown)))
    return cut


def _in_whole(part: Keypoints, place: Crop) -> Keypoints:
    """Return the keypoints of a part as if they had been found in the whole, just as enlarged."""
    width, height = round(part.width / place.width), round(part.height / place.height)
    corner = np.array([place.x * width, place.y * height], np.float32)
    return replace(part, width=width, height=height, places=part.places + corner)
