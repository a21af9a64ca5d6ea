"""Converts pixels of any kind to RGB as a viewer would show them.

The order is: deep and palette pixels to 8 bits per channel, depending on their mode; reduction;
colour profile; background behind transparent pixels.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.pictures.profiles import to_srgb

# TIFF tags that describe the samples.
_BITS, _PHOTOMETRIC, _FORMAT, _LOWEST, _HIGHEST = 258, 262, 339, 340, 341
_UNSIGNED, _SIGNED = 1, 2
# The pixels that are converted to 8 bits at a time.
_STRIP_PIXELS = 1 << 20
# A drawing is visible if its luminance differs from the background by at least this (of 255).
_VISIBLE = 32
# Drawings are examined at this size.
_DRAWING_SIDE = 64


def shown(image: Image.Image, *, side: int, turn: int = 1, profile: bytes = b"") -> Image.Image:
    """Return a loaded image as upright RGB, reduced to a short side of no less than `side`.

    `turn` is the EXIF orientation, 1 to 8.
    """
    image = _shrink(_channels(image), side)
    image = to_srgb(_turned(image, turn), profile)
    return _on_ground(image)


def is_blank(image: Image.Image) -> bool:
    """Return whether an RGB image is a single colour, allowing for compression artefacts."""
    extrema: Any = image.getextrema()
    return all(high - low <= 8 for low, high in extrema)


def _channels(image: Image.Image) -> Image.Image:
    """Convert an image to L, LA, RGB, RGBA, CMYK or LAB."""
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _eight_bits(image)
    if mode == "La":
        return image.convert("LA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB") and "transparency" not in image.info:
        return image
    if mode == "RGB":
        _deep_key_to_eight_bits(image)
    # Palette indices cannot be averaged, and a colour that marks transparency must not be.
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if mode == "1" else "RGB")


def _deep_key_to_eight_bits(image: Image.Image) -> None:
    """Scale the transparent colour of a 16-bit PNG as Pillow scaled its pixels."""
    key: tuple[int, ...] = image.info["transparency"]
    if max(key) > 255:
        image.info["transparency"] = tuple(level >> 8 for level in key)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert deep grey to 8 bits, mapping the range given by the mode to black and white.

    One strip after the other, as numbers take several times the memory of the image.
    """
    tags: Any = getattr(image, "tag_v2", {})
    key = image.info.get("transparency")
    flat = Image.new("LA" if isinstance(key, int) else "L", image.size)
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        samples = np.asarray(image.crop((0, top, image.width, bottom)))
        strip = Image.fromarray(_grey(samples, _range(image.mode, tags), tags))
        if isinstance(key, int):
            strip.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
        flat.paste(strip, (0, top))
    return flat


def _grey(samples: NDArray[Any], ends: tuple[float, float], tags: Any) -> NDArray[np.uint8]:
    """Return samples as 8-bit grey; `ends` are the values of black and white."""
    low, high = ends
    if samples.dtype.itemsize == 2:
        table = np.clip((np.arange(1 << 16) - low) / (high - low), 0, 1)
        grey = (table * 255).round().astype(np.uint8)[samples]
    else:
        if high > 0x7FFF_FFFF:
            samples = samples.view(np.uint32)
        values = np.nan_to_num((samples.astype(np.float32) - low) / (high - low), nan=0.0)
        grey = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return 255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey


def _range(mode: str, tags: Any) -> tuple[float, float]:
    """Return the sample values of black and white.

    Unsigned samples use the full range of their bits, signed 16-bit ones its positive half; signed
    32-bit ones are how Pillow, among others, stores 16 bits. Floats range from 0 to 1, or as stated
    by a TIFF's SMinSampleValue and SMaxSampleValue.
    """
    bits = int(tags.get(_BITS, (16,))[0])
    kind = tags.get(_FORMAT, (_UNSIGNED,))[0]
    if mode == "F":
        stated = [_number(tags.get(tag)) for tag in (_LOWEST, _HIGHEST)]
        low, high = stated
        return (low, high) if low < high and math.isfinite(high - low) else (0.0, 1.0)
    if mode == "I" and tags:
        if kind == _UNSIGNED:
            return 0, (1 << bits) - 1
        if kind == _SIGNED and bits == 16:
            return 0, (1 << 15) - 1
    return 0, (1 << min(bits, 16)) - 1


def _number(value: Any) -> float:
    try:
        return float(value[0] if isinstance(value, tuple) else value)  # pyright: ignore[reportUnknownArgumentType]
    except (TypeError, ValueError):
        return math.nan


def _shrink(image: Image.Image, side: int) -> Image.Image:
    factor = min(image.size) // side
    return image.reduce(factor) if factor >= 2 else image


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _on_ground(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparent pixels on white, or on black if that shows more."""
    if image.mode not in ("LA", "RGBA"):
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, "white" if _is_seen_on_white(image) else "black")
    return Image.alpha_composite(ground, image).convert("RGB")


def _is_seen_on_white(image: Image.Image) -> bool:
    """Return whether at least half of the opaque part is visible on white.

    Also if less of it is, but no more would be visible on black.
    """
    small = image.resize((_DRAWING_SIDE, _DRAWING_SIDE), Image.Resampling.BOX, reducing_gap=1)
    alpha = np.asarray(small.getchannel("A"), np.float64)
    luminance = np.asarray(small.convert("RGB").convert("L"))
    lost_on_white = alpha[luminance > 255 - _VISIBLE].sum()
    lost_on_black = alpha[luminance < _VISIBLE].sum()
    return bool(lost_on_white <= alpha.sum() / 2 or lost_on_white <= lost_on_black)
