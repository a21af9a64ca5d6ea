"""Deep pixels, transparent ones, and animations that begin with nothing."""

import struct
import zlib
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.pictures.decoding import Picture, decode, hamming
from app.pictures.opening import MOST_FRAMES
from tests.pictures.files import chunk, with_chunk
from tests.samples import encode, photo

WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2


def decoded(data: bytes, max_pixels: int = 10_000_000) -> Picture:
    return decode(data, max_pixels=max_pixels)


def greys(data: bytes) -> np.ndarray:
    return np.asarray(decoded(data).image)[..., 0].astype(int)


def ramp(highest: float, side: int, kind: type) -> Image.Image:
    """From left to right, from 0 to a value."""
    return Image.fromarray(np.tile(np.linspace(0, highest, side), (side, 1)).astype(kind))


DEEP = {
    "PNG": (65535, np.uint16, "PNG"),
    "TIFF": (65535, np.uint16, "TIFF"),
    "TIFF of 32 bits": (65535, np.int32, "TIFF"),
    "float TIFF": (1.0, np.float32, "TIFF"),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("side", [64, 600, 1300])
def test_deep_grey_is_scaled_by_its_mode_and_never_by_its_content(name: str, side: int) -> None:
    highest, kind, format_ = DEEP[name]
    for brightest in (1.0, 0.5, 0.1, 0.004):
        shown = greys(encode(ramp(highest * brightest, side, kind), format_))
        expected = np.linspace(0, 255 * brightest, shown.shape[1])
        assert np.abs(shown - expected).max() <= 2, brightest


def test_bytes_may_be_in_either_order() -> None:
    samples = np.asarray(ramp(65535, 64, np.uint16))
    data = encode(Image.fromarray(samples.astype(">u2")), "TIFF")
    assert Image.open(BytesIO(data)).mode == "I;16B"
    assert np.abs(greys(data) - samples / 257).max() <= 1


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF of Pillow's with another value of a tag of one short number."""
    start = data.index(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0")
    return data[: start + 8] + value.to_bytes(4, "little") + data[start + 12 :]


def test_a_tiff_says_what_its_numbers_mean() -> None:
    deep = encode(ramp(65535, 64, np.uint16), "TIFF")
    assert np.array_equal(greys(with_tag(deep, 262, WHITE_IS_ZERO)), 255 - greys(deep))
    # As signed numbers, the upper half is below zero.
    signed = greys(encode(ramp(32767, 64, np.uint16), "TIFF", tiffinfo={339: SIGNED}))
    assert np.abs(signed - np.linspace(0, 255, 64)).max() <= 2
    wide = with_tag(encode(ramp(2**31 - 1, 64, np.int32), "TIFF"), 339, UNSIGNED)
    assert np.abs(greys(wide) - np.linspace(0, 127.5, 64)).max() <= 2


def test_floats_beyond_their_range_are_cut_off() -> None:
    values = np.array([[-1, 0, 0.5, 1, 2, np.nan, np.inf, -np.inf]], np.float32).repeat(8, axis=0)
    assert greys(encode(Image.fromarray(values), "TIFF"))[0].tolist() == [
        *(0, 0, 128, 255, 255, 0, 255, 0)
    ]


def test_floats_may_state_their_range() -> None:
    image = ramp(200, 64, np.float32)
    stated = encode(image, "TIFF", tiffinfo={340: 0.0, 341: 400.0})
    assert np.abs(greys(stated) - np.linspace(0, 127.5, 64)).max() <= 1
    for none in ({340: 5.0, 341: 5.0}, {341: float("nan"), 340: 0.0}):
        assert greys(encode(image, "TIFF", tiffinfo=none)).max() == 255


def test_deep_grey_may_be_transparent() -> None:
    samples = np.full((64, 64), 3000, np.uint16)
    samples[:32] = 50_000
    data = with_chunk(encode(Image.fromarray(samples)), chunk(b"tRNS", (50_000).to_bytes(2, "big")))
    shown = greys(data)
    assert (shown[9, 9], shown[60, 9]) == (255, 12)


def test_deep_colours_and_their_transparent_one() -> None:
    row = (
        b"\0"
        + struct.pack(">3H", 0x1234, 0x5678, 0x9ABC) * 4
        + struct.pack(">3H", 0xFFFF, 0, 0) * 4
    )
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    body = chunk(b"IDAT", zlib.compress(row * 8)), chunk(b"IEND", b"")
    image = decoded(b"\x89PNG\r\n\x1a\n" + b"".join((*chunks, *body))).image
    assert (image.getpixel((0, 0)), image.getpixel((7, 0))) == ((255, 255, 255), (255, 0, 0))


def drawing(seed: int, colour: tuple[int, int, int], size: int = 300) -> Image.Image:
    """A few strokes on nothing."""
    image = Image.new("RGBA", (size, size), (*colour, 0))
    points = np.random.default_rng(seed).integers(0, size, (6, 2))
    ImageDraw.Draw(image).line([(int(x), int(y)) for x, y in points], (*colour, 255), size // 20)
    return image


@pytest.mark.parametrize("size", [300, 1400])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (250, 245, 230), (200, 30, 30)])
def test_drawings_on_nothing_differ_whatever_their_colour(
    colour: tuple[int, int, int], size: int
) -> None:
    pictures = [decoded(encode(drawing(seed, colour, size))) for seed in range(5)]
    for one, other in combinations(pictures, 2):
        assert hamming(one.dhash, other.dhash) > 10
    assert not any(picture.too_plain for picture in pictures)


@pytest.mark.parametrize(
    ("colour", "ground"),
    [((0, 0, 0), 255), ((200, 30, 30), 255), ((200, 200, 200), 255), ((255, 255, 255), 0)],
)
def test_the_ground_is_white_unless_the_drawing_would_be_lost_on_it(
    colour: tuple[int, int, int], ground: int
) -> None:
    for format_ in ("PNG", "WEBP", "TIFF"):
        picture = decoded(encode(drawing(1, colour), format_, **LOSSLESS.get(format_, {})))
        assert (
            np.asarray(picture.image)[np.asarray(drawing(1, colour))[..., 3] == 0].max() == ground
        )


LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}


def test_a_drawing_in_black_and_white_keeps_its_white_ground() -> None:
    image = drawing(1, (0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 40, 40))
    assert decoded(encode(image)).image.getpixel((299, 0)) == (255, 255, 255)


def test_shades_of_transparency_show_on_their_ground() -> None:
    faint = Image.merge("LA", (Image.new("L", (256, 256), 255), Image.linear_gradient("L")))
    shown = greys(encode(faint))
    assert (shown[0, 0], shown[255, 0]) == (0, 255)


def test_a_palette_and_a_key_may_be_transparent() -> None:
    white = Image.new("P", (64, 64), 0)
    white.putpalette([255, 255, 255, 255, 255, 255])
    white.paste(1, (20, 20, 40, 40))
    for data in (
        encode(white, "PNG", transparency=0),
        encode(white, "GIF", transparency=0),
        encode(white, "PNG", transparency=bytes((0, 255))),
    ):
        shown = greys(data)
        assert (shown[0, 0], shown[30, 30]) == (0, 255)
    keyed = Image.new("RGB", (1200, 1200), (1, 2, 3))
    keyed.paste((0, 0, 200), (0, 0, 600, 1200))
    picture = decoded(encode(keyed, transparency=(1, 2, 3)))
    assert picture.image.getpixel((picture.image.width - 1, 9)) == (255, 255, 255)


def test_what_is_all_transparent_is_white_and_plain() -> None:
    picture = decoded(encode(Image.new("RGBA", (64, 64), (9, 9, 9, 0))))
    assert np.asarray(picture.image).min() == 255
    assert picture.too_plain


def animated(format_: str, frames: list[Image.Image], **options: object) -> bytes:
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(format_, {})
    return encode(
        frames[0], format_, save_all=True, append_images=frames[1:], **lossless, **options
    )


def likeness(picture: Picture, image: Image.Image) -> float:
    shown = np.asarray(picture.image, int)
    return float(np.abs(shown - np.asarray(image.convert("RGB"), int)).mean())


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_is_its_first_frame_that_is_not_blank(format_: str) -> None:
    image = photo(1, (64, 64))
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "red")]
    picture = decoded(animated(format_, [*frames, image, photo(2, (64, 64))]))
    assert likeness(picture, image) < 12
    assert not picture.too_plain


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_a_transparent_frame_is_blank(format_: str) -> None:
    image = drawing(1, (255, 255, 255), 64)
    picture = decoded(animated(format_, [Image.new("RGBA", (64, 64)), image], disposal=2))
    assert len(np.unique(np.asarray(picture.image))) > 1


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_counts_if_it_shows_anything(format_: str) -> None:
    first = Image.new("RGB", (64, 64), "navy")
    first.paste((255, 255, 255), (30, 30, 34, 34))
    assert likeness(decoded(animated(format_, [first, photo(2, (64, 64))])), first) < 12


def test_the_search_for_a_frame_has_an_end() -> None:
    blanks = [Image.new("L", (8, 8), number % 2 * 255) for number in range(MOST_FRAMES + 4)]
    late = decoded(animated("GIF", [*blanks, photo(1, (8, 8))]))
    assert likeness(late, blanks[0]) == 0
    # Nor is more looked at than a picture may have pixels.
    data = animated("GIF", [*blanks[:10], photo(1, (8, 8))])
    assert likeness(decoded(data, max_pixels=64 * 5), blanks[0]) == 0
    assert likeness(decoded(data, max_pixels=64 * 20), blanks[0]) > 10


def test_of_blank_frames_the_first_counts() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("navy", "red")]
    for format_ in ("GIF", "WEBP", "PNG", "AVIF"):
        assert likeness(decoded(animated(format_, frames)), frames[0]) < 6


def test_a_frame_that_cannot_be_read_ends_the_search() -> None:
    blank = Image.new("RGB", (64, 64), "navy")
    for format_ in ("GIF", "PNG"):
        data = animated(format_, [blank, photo(1, (64, 64))])
        assert likeness(decoded(data[: len(data) // 2]), blank) < 2


def test_the_image_for_those_who_show_no_animations_is_none_of_its_frames() -> None:
    image = photo(1, (64, 64))
    data = animated("PNG", [Image.new("RGB", (64, 64), "navy"), image], default_image=True)
    assert likeness(decoded(data), image) < 1


def test_pages_are_no_frames() -> None:
    pages = [Image.new("RGB", (64, 64), "white"), photo(1, (64, 64))]
    assert likeness(decoded(animated("TIFF", pages)), pages[0]) == 0
