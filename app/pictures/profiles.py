"""Colours as a picture's ICC profile means them, in sRGB."""

import functools
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from app.pictures.containers import LARGEST_PROFILE

# The colour space that a profile says to be for (ICC.1, 7.2.6), by the mode it can be used with.
_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}
# A profile that moves no colour by more levels than this is sRGB by another name.
_SAME = 2
# Photos come with a few profiles; to read one takes some milliseconds.
_KEPT = 16


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an L, LA, RGB, RGBA, CMYK or LAB image with its colours in sRGB.

    A profile that cannot be used, or is for another kind of pixels, is no profile.
    """
    if image.mode == "LAB":
        return _lab().apply(image) or image
    space = profile[16:20]
    if not space or len(profile) > LARGEST_PROFILE:
        return image
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    # Grey pixels are colours of such a profile, too.
    if colours.mode == "L" and space == _SPACES["RGB"]:
        colours = colours.convert("RGB")
    transform = _transform(profile, colours.mode) if space == _SPACES.get(colours.mode) else None
    if transform is None:
        return image
    shown = transform.apply(colours) or colours
    if alpha:
        shown.putalpha(alpha)
    return shown


@functools.lru_cache(maxsize=_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile's colours to sRGB, or None if there is none, or no need."""
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(given, _made("sRGB"), mode, "RGB")
        probe = _probe(mode)
        moved = np.asarray(transform.apply(probe), np.int16)
    except MemoryError:
        raise
    except Exception:  # The library's own, and whatever it trips over.
        return None
    if mode == "CMYK":
        return transform
    return transform if np.abs(moved - np.asarray(probe.convert("RGB"))).max() > _SAME else None


def _probe(mode: str) -> Image.Image:
    """Return an image of colours from all over a mode's."""
    if mode != "RGB":
        return Image.linear_gradient("L").convert(mode)
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3))


@functools.cache
def _made(space: Literal["sRGB", "LAB"]) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space))  # pyright: ignore[reportUnknownArgumentType]


@functools.cache
def _lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.ImageCmsTransform(_made("LAB"), _made("sRGB"), "LAB", "RGB")
