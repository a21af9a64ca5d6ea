"""Tiles of a query, for finding pictures within it: in a screenshot, a collage or a page.

The vector of a whole page says little about a small picture on it. So each of 3 x 3 tiles, half a
side each, is searched for by itself, and what it finds is verified by the tile's own keypoints.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from app.pictures.decoding import Crop
from app.pictures.keypoints import Keypoints, Pixels, keypoints_of_grey, working_grey
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

    `whole` is a view of the whole query, and `grey` what keypoints of the part are looked for in.
    """

    place: Crop
    image: Image.Image
    whole: View
    grey: Pixels

    def look(self) -> View:
        """Return the whole query, seen by the keypoints of the tile only; it takes about 15 ms.

        So what `verify` tells of it is about the whole query.
        """
        return look(self.whole, self.grey, self.place)


def look(whole: View, grey: Pixels, place: Crop) -> View:
    """Return a view of the whole by the keypoints of a part of it, at `place`."""
    return whole.seeing(_in_whole(keypoints_of_grey(grey), place), whole.pixels())


def tiles(image: Image.Image, whole: View) -> list[Tile]:
    """Cut an RGB image, of which `whole` is the view, into nine tiles.

    The larger the image, the smaller the pictures that are found in it.
    """
    seen = whole.seeing(whole.keypoints, Shown(pixels_of(image, SHORT_SIDE)))
    parts = [(place, place.of(image)) for place in TILES]
    return [Tile(place, part, seen, working_grey(part)) for place, part in parts]


def _in_whole(part: Keypoints, place: Crop) -> Keypoints:
    """Return the keypoints of a part as if they had been found in the whole, just as enlarged."""
    width, height = round(part.width / place.width), round(part.height / place.height)
    corner = np.array([place.x * width, place.y * height], np.float32)
    return replace(part, width=width, height=height, places=part.places + corner)
