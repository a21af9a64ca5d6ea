from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.pictures.registration import warped
from app.pictures.shown import Look, Shown
from app.pictures.views import View
from tests.samples import encode, photo


@pytest.mark.parametrize("look", ["colours", "grey", "brightest"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (5, 1), (1, 1)])
def test_halves_are_means_of_four_pixels(look: Look, size: tuple[int, int]) -> None:
    shown = Shown(np.asarray(photo(1, size)))
    whole, half = (shown.halved(look, times).astype(np.float32) for times in (0, 1))
    width, height = size
    assert half.shape[:2] == (max(1, height // 2), max(1, width // 2))
    if min(size) > 1:
        even = whole[: height // 2 * 2, : width // 2 * 2]
        means = np.mean([even[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
        assert np.abs(half - means).max() <= 0.5


def test_a_mirrored_image_shows_the_same_from_right_to_left() -> None:
    pixels = np.asarray(photo(2, (50, 40)))
    assert np.array_equal(Shown(pixels).mirrored().pixels, pixels[:, ::-1])


@pytest.mark.parametrize("scale", [0.05, 0.11, 0.3, 0.59, 0.61, 1.0, 2.5])
def test_a_reduced_image_lies_where_it_should_at_any_scale(scale: float) -> None:
    """Each halving moves no edge: a white square stays where the map puts it."""
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[120:280, 200:440] = 255
    size = round(600 * scale), round(400 * scale)
    laid = warped(Shown(pixels), "grey", np.array([[scale, 0, 0], [0, scale, 0]]), size) / 255
    assert laid.sum() == pytest.approx(160 * 240 * scale**2, rel=0.04)
    y, x = (np.arange(length) + 0.5 for length in laid.shape)
    assert (laid.sum(axis=0) @ x) / laid.sum() == pytest.approx(320 * scale, abs=0.1)
    assert (laid.sum(axis=1) @ y) / laid.sum() == pytest.approx(200 * scale, abs=0.1)


def test_a_thumbnail_is_read_as_pillow_reads_it() -> None:
    data = encode(photo(3, (256, 341)), "JPEG", quality=85)
    view = View.of(photo(3, (256, 341)))
    shown = View(256, 341, view.keypoints, data, view.dhash).pixels().pixels
    with Image.open(BytesIO(data)) as thumbnail:
        assert np.array_equal(shown, np.asarray(thumbnail.convert("RGB")))


def test_a_thumbnail_that_cannot_be_read_is_an_error() -> None:
    view = View.of(photo(3, (60, 50)))
    with pytest.raises(ValueError, match="cannot be read"):
        View(60, 50, view.keypoints, b"no image", view.dhash).pixels()
