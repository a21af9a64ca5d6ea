import numpy as np
import pytest
from PIL import Image

from app.pictures.decoding import dhash, hamming
from app.pictures.reducing import MOST, reduced_to
from tests.samples import photo


def by_pillow(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.HAMMING)


def difference(one: Image.Image, other: Image.Image) -> float:
    levels = [np.asarray(image, np.float64) for image in (one, other)]
    return float(np.sqrt(((levels[0] - levels[1]) ** 2).mean()))


@pytest.mark.parametrize("factor", [1.001, 1.1, 1.5, 1.875, 2, 2.6, 3, 3.9, MOST, 7.3])
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 4), (8, 1)])
def test_photos_are_reduced_as_with_pillows_filter(factor: float, shape: tuple[int, int]) -> None:
    size = (96 * shape[0], 96 * shape[1])
    image = photo(5, (round(size[0] * factor), round(size[1] * factor)))
    made, expected = reduced_to(image, size), by_pillow(image, size)
    assert (made.size, made.mode) == (size, "RGB")
    # A JPEG of quality 85 differs by more.
    assert difference(made, expected) < 3
    assert hamming(dhash(made), dhash(expected)) <= 2


@pytest.mark.parametrize("factor", [1.5, 1.9, 2, 2.5, 3, 3.5])
@pytest.mark.parametrize("period", [2, 3])
def test_patterns_finer_than_the_pixels_become_grey_instead_of_coarser(
    factor: float, period: int
) -> None:
    side = 192
    lines = np.arange(side) % period < period / 2
    image = Image.fromarray(np.repeat(lines[None, :, None] * np.uint8(255), side, 0).repeat(3, 2))
    size = (round(side / factor), round(side / factor))
    made, expected = reduced_to(image, size), by_pillow(image, size)
    spread, expected_spread = (float(np.asarray(i, np.float64).std()) for i in (made, expected))
    assert spread <= expected_spread + 8


def test_an_edge_stays_where_it_is() -> None:
    levels = np.zeros((300, 300, 3), np.uint8)
    levels[:, 150:] = 200
    levels[150:] //= 2
    made = np.asarray(reduced_to(Image.fromarray(levels), (160, 160)), np.float64)
    assert np.abs(made[:78, :78]).max() <= 1
    assert np.abs(made[:78, 82:] - 200).max() <= 1
    assert np.abs(made[82:, 82:] - 100).max() <= 1
    assert made[:78].mean(axis=(0, 2)).sum() == pytest.approx(80 * 200, rel=0.001)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((1, 3), (1, 2)),
        ((3, 1), (2, 1)),
        ((2, 4000), (1, 2048)),
        ((5, 5), (5, 5)),
        ((3, 3), (6, 6)),
    ],
)
def test_tiny_and_thin_images_keep_their_colour(old: tuple[int, int], new: tuple[int, int]) -> None:
    made = reduced_to(Image.new("RGB", old, (10, 128, 250)), new)
    assert made.size == new
    assert made.getcolors() == [(new[0] * new[1], (10, 128, 250))]


def test_other_modes_are_left_to_pillow() -> None:
    image = photo(2, (300, 200)).convert("L")
    assert reduced_to(image, (200, 133)).tobytes() == by_pillow(image, (200, 133)).tobytes()
