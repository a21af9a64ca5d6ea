"""The dominant colours of an image, under their everyday names."""

import colorsys
import functools
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The basic colour terms of English (Berlin and Kay, "Basic Color Terms", 1969).
ColourName = Literal[
    "black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"
]
NAMES: tuple[ColourName, ...] = get_args(ColourName)

# Images are reduced to this side, and to this many bits per channel, before colours are counted.
SIDE = 32
BITS = 4
# Someone who searches by colour does not mean one that covers less of the image than this.
LEAST_SHARE = 0.1

# The hue, in degrees, at which each name ends.
_HUES: tuple[tuple[int, ColourName], ...] = (
    (14, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (295, "purple"),
    (345, "pink"), (360, "red"),
)  # fmt: skip


class Colour(TypedDict):
    """One colour of an image: its name, `#rrggbb`, and the share of the image it covers, 0 to 1."""

    name: ColourName
    rgb: str
    share: float


def dominant_colours(image: Image.Image) -> list[Colour]:
    """Return the colours that each cover at least a tenth of an RGB image, largest share first.

    A colour's `rgb` is the mean of the pixels with its name.
    """
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1))
    pixels = small.reshape(-1, 3).astype(np.int64)
    red, green, blue = (pixels >> (8 - BITS)).T
    names = _name_places()[(red << 2 * BITS) | (green << BITS) | blue]
    colours: list[Colour] = []
    for place, count in enumerate(np.bincount(names, minlength=len(NAMES)).tolist()):
        share = count / len(pixels)
        if share >= LEAST_SHARE:
            mean = pixels[names == place].mean(axis=0).round().astype(int).tolist()
            rgb = "#{:02x}{:02x}{:02x}".format(*mean)
            colours.append({"name": NAMES[place], "rgb": rgb, "share": round(share, 2)})
    return sorted(colours, key=lambda colour: -colour["share"])


@functools.cache
def _name_places() -> NDArray[np.int64]:
    """Return the index into `NAMES` of every colour of `BITS` bits per channel."""
    levels = [(level << (8 - BITS)) + (1 << (7 - BITS)) for level in range(1 << BITS)]
    every = [colour_name(r, g, b) for r in levels for g in levels for b in levels]
    return np.array([NAMES.index(name) for name in every])


def colour_name(red: int, green: int, blue: int) -> ColourName:
    """Return the name of a colour; each channel is 0 to 255."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.2:
        return "black"
    if saturation < 0.18 or (saturation < 0.25 and value < 0.35):
        if value > 0.85:
            return "white"
        return "grey" if value > 0.25 else "black"
    name: ColourName = next(name for end, name in _HUES if hue * 360 <= end)
    if name in ("orange", "red") and value < 0.65 and hue * 360 < 50 and hue > 0.015:
        return "brown"
    if name == "orange" and saturation < 0.5 and value < 0.8:
        return "brown"
    if name == "red" and saturation < 0.5 and value > 0.7:
        return "pink"
    if name == "pink" and value < 0.45:
        return "purple"
    return name
