"""Resizing for the built-in model, compared with Pillow's."""

import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.encoding.onnx_model import OnnxModel
from app.encoding.resizing import resized_quickly
from app.encoding.weights import BUILTIN_DIRECTORY
from app.pictures.opencv import opencv
from tests.samples import photo

SIZE = (128, 128)
# As thumbnails of 16:9, 4:3, 1:1 and 3:4, and what is decoded for a query at the least.
SIZES = [(455, 256), (341, 256), (256, 256), (256, 341), (320, 192), (512, 512)]


def pillow(image: Image.Image) -> Image.Image:
    return image.resize(SIZE, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_nearly_what_pillow_makes(size: tuple[int, int]) -> None:
    opencv()
    image = photo(1, size)
    made = resized_quickly(image, SIZE)
    assert made is not None
    assert (made.size, made.mode) == (SIZE, "RGB")
    difference = np.abs(np.asarray(made, int) - np.asarray(pillow(image), int))
    assert difference.mean() < 1


def test_an_even_image_stays_as_it_is() -> None:
    opencv()
    for level in (0, 1, 127, 254, 255):
        made = resized_quickly(Image.new("RGB", (341, 256), (level, level, level)), SIZE)
        assert made is not None
        assert np.unique(np.asarray(made)).tolist() == [level]


def test_vectors_of_the_built_in_model_hardly_change(monkeypatch: pytest.MonkeyPatch) -> None:
    opencv()
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")
    images = [photo(seed, size) for seed, size in enumerate(SIZES)]

    def vectors() -> Any:
        found = model.embed_images([model.prepare(image) for image in images])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    quick = vectors()
    monkeypatch.delitem(sys.modules, "cv2")
    assert ((quick * vectors()).sum(axis=1) > 0.9995).all()
    assert not np.array_equal(quick, vectors())


@pytest.mark.parametrize(
    ("size", "mode"),
    [((128, 128), "RGB"), ((160, 256), "RGB"), ((700, 256), "RGB"), ((64, 64), "RGB"),
     ((256, 256), "L"), ((1, 5000), "RGB")],
)  # fmt: skip
def test_what_would_not_be_alike_or_no_faster_is_left_to_pillow(
    size: tuple[int, int], mode: str
) -> None:
    opencv()
    assert resized_quickly(Image.new(mode, size), SIZE) is None


def test_without_opencv_it_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    opencv()
    for absent in ({}, {"cv2": object()}):
        monkeypatch.delitem(sys.modules, "cv2", raising=False)
        for name, module in absent.items():
            # As another thread sees it that imports it at this moment.
            monkeypatch.setitem(sys.modules, name, module)  # pyright: ignore[reportArgumentType]
        assert resized_quickly(Image.new("RGB", (256, 256)), SIZE) is None
