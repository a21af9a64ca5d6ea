"""Colours as the embedded profile means them."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.pictures import profiles
from app.pictures.decoding import Picture, decode
from tests.pictures.files import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    SWAPPED,
    cmyk_profile,
    grey_profile,
    rgb_profile,
)
from tests.samples import encode, photo

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
RED = (220, 30, 30)


def decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=10_000_000)


def shown(mode: str, colour: object, format_: str, profile: bytes) -> tuple[int, ...]:
    """The colour, in sRGB, of an image of one colour."""
    image = Image.new(mode, (64, 64), colour)  # pyright: ignore[reportArgumentType]
    return decoded(encode(image, format_, icc_profile=profile)).image.getpixel((9, 9))  # pyright: ignore[reportReturnType]


def near(colour: tuple[int, ...], expected: tuple[int, ...], by: int = 4) -> bool:
    return max(abs(a - b) for a, b in zip(colour, expected, strict=True)) <= by


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_has_its_colours_in_srgb(format_: str) -> None:
    profile = rgb_profile(SWAPPED, 2.2)
    image = Image.new("RGB", (300, 300), RED)
    picture = decoded(encode(image, format_, icc_profile=profile))
    assert picture.colours[0]["name"] == "green"
    thumbnail = Image.open(BytesIO(picture.thumbnail))
    assert near(thumbnail.getpixel((9, 9)), picture.image.getpixel((9, 9)))  # pyright: ignore[reportArgumentType]
    assert "icc_profile" not in thumbnail.info
    assert "exif" not in thumbnail.info


def test_a_bitmap_has_its_profile_in_its_header() -> None:
    image, profile = Image.new("RGB", (20, 20), RED), rgb_profile(SWAPPED, 2.2)
    old = encode(image, "BMP")
    pixels = old[54:]
    header = bytearray(124)
    header[:40] = old[14:54]
    struct.pack_into("<I", header, 0, 124)
    header[56:60] = b"DEBM"
    struct.pack_into("<II", header, 112, 124 + len(pixels), len(profile))
    start = struct.pack("<2sIII", b"BM", 138 + len(pixels) + len(profile), 0, 138)
    data = start + bytes(header) + pixels + profile
    assert decoded(data).colours[0]["name"] == "green"


@pytest.mark.parametrize(
    ("primaries", "gamma", "expected"),
    [
        # By the matrices of the spaces: brighter reds and greens than sRGB's are cut off.
        (DISPLAY_P3, 2.2, (219, 37, 13)),
        (ADOBE_RGB, 2.2, (231, 57, 34)),
        (SRGB, 2.2, (201, 57, 35)),
        (SRGB, 1.0, (228, 133, 111)),
    ],
)
def test_common_spaces(primaries: tuple, gamma: float, expected: tuple[int, int, int]) -> None:
    assert near(shown("RGB", (200, 60, 40), "PNG", rgb_profile(primaries, gamma)), expected, 2)


def test_srgb_by_any_name_changes_nothing() -> None:
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = photo(1)
    plain, tagged = (decoded(encode(image, icc_profile=icc)) for icc in (b"", same))
    assert tagged.image.tobytes() == plain.image.tobytes()


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "JPEG"])
def test_grey_has_its_own_profiles(format_: str) -> None:
    assert near(shown("L", 128, format_, grey_profile(1.0)), (188, 188, 188))
    # Photos turned grey keep the profile of their colours.
    assert near(shown("L", 128, format_, rgb_profile(SWAPPED, 1.0)), (188, 188, 188))


def test_deep_grey_too() -> None:
    deep = Image.fromarray(np.full((64, 64), 128 * 257, np.uint16))
    data = encode(deep, icc_profile=grey_profile(1.0))
    assert near(decoded(data).image.getpixel((9, 9)), (188, 188, 188))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_inks_mean_what_their_profile_says(format_: str) -> None:
    profile = cmyk_profile(inks=(40, 60, 20, 200))
    for ink, grey in enumerate((210, 189, 231, 52)):
        colour = tuple(255 if place == ink else 0 for place in range(4))
        assert near(shown("CMYK", colour, format_, profile), (grey, grey, grey), 6)
    assert near(shown("CMYK", (0, 0, 0, 0), format_, profile), (255, 255, 255))


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_inks_without_a_profile_are_as_bright_as_they_were(format_: str) -> None:
    # Adobe's programs write the inks of JPEGs upside down, and so does Pillow.
    for colour, expected in (
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ):
        assert near(shown("CMYK", colour, format_, b""), expected)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_transparency_stays_where_it_is(format_: str) -> None:
    image = Image.new("RGBA", (64, 64), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 64, 32))
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encode(image, format_, icc_profile=rgb_profile(SWAPPED, 2.2), **options)
    picture = decoded(data).image
    assert picture.getpixel((9, 9)) == (255, 255, 255)
    red, green, _ = picture.getpixel((9, 60))  # pyright: ignore[reportGeneralTypeIssues]
    assert green > red


def test_palettes_have_profiles() -> None:
    image = Image.new("RGB", (64, 64), RED).quantize(4)
    picture = decoded(encode(image, icc_profile=rgb_profile(SWAPPED, 2.2)))
    assert picture.colours[0]["name"] == "green"


def test_colours_in_lab_are_converted() -> None:
    image = Image.new("RGB", (64, 64), (200, 60, 40))
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = to_lab.apply(image)
    assert near(decoded(encode(lab, "TIFF")).image.getpixel((9, 9)), (200, 60, 40))  # pyright: ignore[reportArgumentType]


SWAP = rgb_profile(SWAPPED, 2.2)
BROKEN = {
    "garbage": b"x" * 500,
    "short": b"x",
    "half": SWAP[:300],
    "no tags": SWAP[:128] + bytes(4) + SWAP[132:],
    "a kind that is none": SWAP[:16] + b"????" + SWAP[20:],
    "for other pixels": grey_profile(1.0),
    "for inks": cmyk_profile(inks=(40, 60, 20, 200)),
    "a curve of nothing": SWAP.replace(b"curv\0\0\0\0", b"xxxx\0\0\0\0"),
}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_broken_profile_is_none(format_: str) -> None:
    for name, profile in BROKEN.items():
        assert near(shown("RGB", (200, 60, 40), format_, profile), (200, 60, 40)), name


def test_a_profile_is_read_once() -> None:
    profile = rgb_profile(SWAPPED, 2.0)
    before = profiles._transform.cache_info()
    for seed in range(5):
        decoded(encode(photo(seed, (64, 64)), icc_profile=profile))
    after = profiles._transform.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 4)
