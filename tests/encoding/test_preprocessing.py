"""Preprocessing, compared with an independent floating-point computation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.encoding.preprocessing import read_preprocessing
from app.problems import UnusableEncoder
from tests.onnx_models import PREPROCESSOR
from tests.samples import photo

MEAN = np.array(PREPROCESSOR["image_mean"])
STD = np.array(PREPROCESSOR["image_std"])


def cubic(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Keys' kernel with a = -0.5 (R. Keys, 1981)."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resized(pixels: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
    """Bicubic resizing with the kernel widened by the scale: anti-aliased reduction."""
    for axis, target in ((1, width), (0, height)):
        source = pixels.shape[axis]
        scale = source / target
        centres = (np.arange(target) + 0.5) * scale
        offsets = (np.arange(source)[None, :] + 0.5 - centres[:, None]) / max(scale, 1)
        weights = cubic(offsets)
        weights /= weights.sum(axis=1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis).clip(0, 255)
    return pixels


def preprocess(config: dict[str, Any], tmp_path: Path, size: tuple[int, int]) -> Any:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(config))
    return read_preprocessing(path)(photo(1, size))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (333, 517), (40, 33), (20, 25), (32, 32)])
def test_clip_preprocessing_matches_the_reference(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    short = min(size)
    pixels = np.asarray(photo(1, size), np.float64)
    pixels = resized(pixels, int(32 * height / short), int(32 * width / short))
    top, left = (pixels.shape[0] - 32) // 2, (pixels.shape[1] - 32) // 2
    pixels = pixels[top : top + 32, left : left + 32]
    expected = ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)
    given = preprocess(PREPROCESSOR, tmp_path, size)
    assert (given.shape, given.dtype) == ((3, 32, 32), np.float32)
    # Pillow rounds to whole levels after each of its two passes.
    assert np.abs(given - expected).max() < 2 / 255 / STD.min()
    assert np.abs(given - expected).mean() < 0.5 / 255 / STD.min()


def test_height_and_width_without_crop_ignore_the_aspect_ratio(tmp_path: Path) -> None:
    config = {"size": {"height": 24, "width": 40}, "do_center_crop": False, "do_normalize": False}
    given = preprocess(config, tmp_path, (300, 200))
    expected = resized(np.asarray(photo(1, (300, 200)), np.float64), 24, 40) / 255
    assert given.shape == (3, 24, 40)
    assert np.abs(given - expected.transpose(2, 0, 1)).max() < 2 / 255


def test_the_older_format_with_plain_numbers_is_read(tmp_path: Path) -> None:
    old = {**PREPROCESSOR, "size": 32, "crop_size": 32}
    new = preprocess(PREPROCESSOR, tmp_path, (300, 200))
    assert np.array_equal(preprocess(old, tmp_path, (300, 200)), new)


def test_steps_can_be_turned_off(tmp_path: Path) -> None:
    config = {
        "do_resize": False,
        "do_center_crop": False,
        "do_rescale": False,
        "do_normalize": False,
    }
    given = preprocess(config, tmp_path, (30, 20))
    assert np.array_equal(given, np.asarray(photo(1, (30, 20))).transpose(2, 0, 1))


def test_a_very_thin_image_does_not_exhaust_the_memory(tmp_path: Path) -> None:
    assert preprocess(PREPROCESSOR, tmp_path, (1, 60_000)).shape == (3, 32, 32)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"size": {"diameter": 3}}', '{"resample": 99}', '{"crop_size": {"x": 1}}']
)
def test_an_invalid_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(text)
    with pytest.raises(UnusableEncoder, match=r"preprocessor_config\.json"):
        read_preprocessing(path)
