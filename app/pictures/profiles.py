"""Converts colours to sRGB according to an image's ICC profile."""

import functools
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from app.pictures.containers import LARGEST_PROFILE

# The colour space that a profile declares (ICC.1, 7.2.6), by the image mode it applies to.
_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}
# A profile that shifts no colour by more levels than this is treated as sRGB.
_SAME = 2
# Photos share a few profiles, and parsing one takes some milliseconds.
_KEPT = 16


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert the colours of an L, LA, RGB, RGBA, CMYK or LAB image to sRGB.

    A profile that is invalid, or for another colour space, is ignored.
    """
    if image.mode == "LAB":
        return _lab().apply(image) or image
    space = profile[16:20]
    if not space or len(profile) > LARGEST_PROFILE:
        return image
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    # RGB profiles also apply to grey pixels.
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
    """Return the transform from a profile to sRGB; None if there is none or none is needed."""
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(given, _made("sRGB"), mode, "RGB")
        probe = _probe(mode)
        moved = np.asarray(transform.apply(probe), np.int16)
    except MemoryError:
        raise
    except Exception:  # The library's own errors, and any other a bad profile causes.
        return None
    if mode == "CMYK":
        return transform
    return transform if np.abs(moved - np.asarray(probe.convert("RGB"))).max() > _SAME else None


def _probe(mode: str) -> Image.Image:
    """Return an image whose colours sample the whole range of a mode."""
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
