"""The dominant colours of a picture, by the names that people use."""

import colorsys
from typing import Literal, TypedDict

from PIL import Image

# The basic colour terms of English (Berlin and Kay, "Basic Color Terms", 1969).
ColourName = Literal[
    "black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"
]

# A picture is looked at this small, and as so many colours.
SIDE = 32
COLOURS = 8
# What covers less than this share of a picture is not what someone means who asks for a colour.
LEAST_SHARE = 0.1

# The hue, in degrees, at which each name ends.
_HUES: tuple[tuple[int, ColourName], ...] = (
    (14, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (295, "purple"),
    (345, "pink"), (360, "red"),
)  # fmt: skip


class Colour(TypedDict):
    """One colour of a picture: its name, `#rrggbb`, and the share of the picture, 0 to 1."""

    name: ColourName
    rgb: str
    share: float


def dominant_colours(image: Image.Image) -> list[Colour]:
    """Return the colours that cover at least a tenth of an RGB picture each, the largest first."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1)
    reduced = small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    palette = reduced.getpalette() or []
    counts: list[tuple[int, int]] = reduced.getcolors()  # pyright: ignore[reportAssignmentType]
    found: dict[ColourName, list[tuple[int, tuple[int, int, int]]]] = {}
    for count, place in counts:
        rgb = (palette[3 * place], palette[3 * place + 1], palette[3 * place + 2])
        found.setdefault(colour_name(*rgb), []).append((count, rgb))
    colours: list[Colour] = [
        {
            "name": name,
            "rgb": "#{:02x}{:02x}{:02x}".format(*max(shades)[1]),
            "share": round(sum(count for count, _ in shades) / SIDE**2, 2),
        }
        for name, shades in found.items()
    ]
    large = [colour for colour in colours if colour["share"] >= LEAST_SHARE]
    return sorted(large, key=lambda colour: -colour["share"])


def colour_name(red: int, green: int, blue: int) -> ColourName:
    """Return the name of a colour given as 0 to 255 each."""
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
