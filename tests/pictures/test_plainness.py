"""What is too plain to be told from others."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from app.pictures.decoding import decode
from demo.__main__ import sample_photos
from tests.samples import encode, photo

Colour = tuple[int, int, int]
CODECS = [
    ("PNG", {}),
    ("JPEG", {"quality": 30}),
    ("JPEG", {"quality": 90}),
    ("WEBP", {"quality": 50}),
]


def is_plain(image: Image.Image) -> bool:
    """Whether it is too plain, which no compression may change."""
    found = {
        decode(encode(image, format_, **options), max_pixels=10_000_000).too_plain
        for format_, options in CODECS
    }
    assert len(found) == 1
    return found.pop()


def gradient(*stops: Colour, angle: float = 0, size: tuple[int, int] = (480, 320)) -> Image.Image:
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    along = x / width * np.cos(angle) + y / height * np.sin(angle)
    along = (along - along.min()) / (along.max() - along.min())
    places = np.linspace(0, 1, len(stops))
    bands = [np.interp(along, places, [stop[band] for stop in stops]) for band in range(3)]
    return Image.fromarray(np.stack(bands, -1).round().astype(np.uint8))


def page(text: str = "", size: tuple[int, int] = (1000, 1400)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((100, 100), text, fill="black")
    return image


PLAIN = {
    **{colour: Image.new("RGB", (300, 200), colour) for colour in ("white", "black", "teal")},
    "one pixel": Image.new("RGB", (1, 1), "red"),
    "a line": Image.new("RGB", (3000, 2), "red"),
    "an empty page": page(),
    "black to white": gradient((0, 0, 0), (255, 255, 255)),
    "blue to red, aslant": gradient((0, 0, 255), (255, 0, 0), angle=0.7),
    "a sky": gradient((10, 30, 90), (200, 220, 255), angle=1.57, size=(1200, 2000)),
    "three stops": gradient((255, 0, 0), (255, 255, 255), (0, 0, 255)),
    "from the middle": Image.radial_gradient("L").convert("RGB"),
    "a corner of it": Image.radial_gradient("L").crop((100, 0, 256, 156)).convert("RGB"),
    "an empty page, scanned": Image.fromarray(
        np.random.default_rng(0).normal(240, 6, (700, 500, 3)).clip(0, 255).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_one_colour_and_a_gradient_are_plain(name: str) -> None:
    assert is_plain(PLAIN[name])


NOT_PLAIN = {
    "a word on a page": page("Hello"),
    "two words on a larger page": page("Hello world", (2000, 2800)),
    "a full page": page("\n".join(["The quick brown fox jumps over the lazy dog " * 2] * 20)),
    "two halves": Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 100, 1)).convert("RGB"),
    "a photo": photo(1),
    "a blurred photo": photo(3).filter(ImageFilter.GaussianBlur(8)),
    "a dark photo": photo(4).point(lambda level: level // 4),
    "a pale photo": photo(5).point(lambda level: 200 + level // 5),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_shows_something_is_not(name: str) -> None:
    assert not is_plain(NOT_PLAIN[name])


def test_no_sample_photo_is_plain() -> None:
    for name, path in sample_photos().items():
        assert not decode(path.read_bytes(), max_pixels=100_000_000).too_plain, name


def test_a_picture_and_its_thumbnail_are_told_alike() -> None:
    for image in (*PLAIN.values(), *NOT_PLAIN.values()):
        picture = decode(encode(image), max_pixels=10_000_000)
        again = decode(picture.thumbnail, max_pixels=10_000_000)
        assert Image.open(BytesIO(picture.thumbnail)).size == again.image.size
        assert again.too_plain == picture.too_plain
