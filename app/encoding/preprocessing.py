"""Preprocessing of images for a model, as configured in its `preprocessor_config.json`.

The steps and defaults are those of CLIP (resize the short side bicubically, centre crop, scale to
0..1, normalise); the format is that of Hugging Face's image processors.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.resizing import resized_quickly
from app.problems import UnusableEncoder

# https://github.com/openai/CLIP, clip.py: mean and standard deviation of the training images.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Resizing an image of 1 x 100,000 pixels by its short side would exhaust the memory, so what the
# centre crop would remove is removed before resizing, down to this aspect ratio.
MAX_ASPECT = 8


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """A model's preprocessing; a step whose parameter is None is skipped.

    `size` is the length of the short side, or (height, width) regardless of the aspect ratio;
    `crop` is the (height, width) of the centre crop. With `quick`, images are resized as
    `resized_quickly` does, to a model that was seen not to mind.
    """

    size: int | tuple[int, int] | None = 224
    crop: tuple[int, int] | None = (224, 224)
    resample: Image.Resampling = Image.Resampling.BICUBIC
    scale: float | None = 1 / 255
    mean: tuple[float, ...] | None = CLIP_MEAN
    std: tuple[float, ...] | None = CLIP_STD
    quick: bool = False

    @property
    def side(self) -> int:
        """The short side after resizing, in pixels; 224 if images are not resized."""
        if isinstance(self.size, tuple):
            return min(self.size)
        return self.size or 224

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the model's input for an RGB image: (3, height, width) float32."""
        if self.crop is not None:
            image = _centre_crop(
                image,
                *(min(s, MAX_ASPECT * min(image.size)) for s in (image.height, image.width)),
            )
        if self.size is not None:
            target = self._target(image.size)
            made = resized_quickly(image, target) if self._may_be_quick else None
            image = image.resize(target, self.resample) if made is None else made
        if self.crop is not None:
            image = _centre_crop(image, *self.crop)
        factors, offsets = self._affine
        channels = np.asarray(image).transpose(2, 0, 1)
        pixels = np.multiply(channels, factors, dtype=np.float32, order="C")
        pixels += offsets
        return pixels

    @property
    def _may_be_quick(self) -> bool:
        return self.quick and self.resample == Image.Resampling.BICUBIC

    @property
    def _affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factors and offsets, each (3, 1, 1), that scale and normalise in one pass."""
        scale = 1.0 if self.scale is None else self.scale
        std, mean = np.ones(3), np.zeros(3)
        if self.mean is not None and self.std is not None:
            std, mean = np.array(self.std), np.array(self.mean)
        shape = (3, 1, 1)
        return (
            (scale / std).astype(np.float32).reshape(shape),
            (-mean / std).astype(np.float32).reshape(shape),
        )

    def _target(self, size: tuple[int, int]) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            height, width = self.size
            return width, height
        assert self.size is not None  # noqa: S101
        width, height = size
        # The long side is rounded down, as in torchvision and transformers.
        if width <= height:
            return self.size, int(self.size * height / width)
        return int(self.size * width / height), self.size


def read_preprocessing(path: Path) -> Preprocessing:
    """Read a `preprocessor_config.json`; raises `UnusableEncoder` if it is not supported."""
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Preprocessing(
            size=_size(config.get("size", 224)) if config.get("do_resize", True) else None,
            crop=_crop(config) if config.get("do_center_crop", True) else None,
            resample=Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)),
            scale=config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else None,
            mean=_triple(config, "image_mean", CLIP_MEAN),
            std=_triple(config, "image_std", CLIP_STD),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UnusableEncoder(f"{path.name} in {path.parent} cannot be read: {exc}") from exc


def _size(size: int | dict[str, int]) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return size["shortest_edge"]
    return size["height"], size["width"]


def _crop(config: dict[str, Any]) -> tuple[int, int]:
    crop: int | dict[str, int] = config.get("crop_size", 224)
    if isinstance(crop, int):
        return crop, crop
    return crop["height"], crop["width"]


def _triple(
    config: dict[str, Any], key: str, default: tuple[float, ...]
) -> tuple[float, ...] | None:
    return tuple(config.get(key, default)) if config.get("do_normalize", True) else None


def _centre_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    # `crop` fills with black beyond the edges, as the reference implementations do.
    return image.crop((left, top, left + width, top + height))
