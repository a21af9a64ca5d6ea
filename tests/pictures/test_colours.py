from io import BytesIO

import pytest
from PIL import Image

from app.pictures.colours import colour_name, dominant_colours
from tests.samples import encode, photo


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((10, 10, 12), "black"),
        ((250, 250, 245), "white"),
        ((128, 128, 130), "grey"),
        ((211, 33, 45), "red"),
        ((240, 140, 20), "orange"),
        ((120, 70, 30), "brown"),
        ((245, 215, 60), "yellow"),
        ((60, 130, 50), "green"),
        ((120, 180, 230), "blue"),
        ((10, 20, 80), "blue"),
        ((125, 60, 150), "purple"),
        ((250, 160, 190), "pink"),
    ],
)
def test_names(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_name(*rgb) == name


def test_a_picture_has_the_colours_that_cover_a_tenth_of_it() -> None:
    image = Image.new("RGB", (200, 100), (30, 60, 200))
    image.paste((220, 30, 30), (0, 0, 60, 100))
    image.paste((250, 220, 40), (190, 0, 200, 10))
    found = dominant_colours(image)
    assert [colour["name"] for colour in found] == ["blue", "red"]
    assert found[0]["share"] == pytest.approx(0.7, abs=0.05)
    assert found[0]["rgb"] == "#1e3cc8"


def test_recompression_changes_no_colour() -> None:
    image = photo(3)
    file = BytesIO(encode(image, "JPEG", quality=60))
    shares = [
        {colour["name"]: colour["share"] for colour in dominant_colours(picture)}
        for picture in (image, Image.open(file).convert("RGB"))
    ]
    assert shares[0].keys() == shares[1].keys()
    assert shares[1] == pytest.approx(shares[0], abs=0.03)


def test_shares_add_up_however_many_shades_there_are() -> None:
    image = Image.radial_gradient("L").convert("RGB")
    assert sum(colour["share"] for colour in dominant_colours(image)) <= 1.001
