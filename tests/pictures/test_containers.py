"""What stands beside the pixels of a file, and that it is not in their way."""

import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from app.pictures.containers import LARGEST_PROFILE, take_apart
from app.pictures.decoding import Picture, decode
from app.problems import PictureProblem
from tests.pictures.files import SWAPPED, chunk, rgb_profile, with_chunk
from tests.samples import encode, photo

IMAGE = photo(1, (120, 80))
PNG = encode(IMAGE)
SAME = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
JPEG = encode(IMAGE, "JPEG")


def decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=1_000_000)


def pixels(data: bytes) -> bytes:
    return decoded(data).image.tobytes()


def with_text(**given: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for kind, text in given.items():
        if kind == "itxt":
            info.add_itxt("XML:com.adobe.xmp", text, zip=True)
        else:
            info.add_text("parameters", text, zip=kind == "ztxt")
    return encode(IMAGE, "PNG", pnginfo=info)


BOMB = zlib.compress(bytes(200_000_000), 9)
BESIDE_PNG = {
    "long zTXt": with_text(ztxt="x" * 3_000_000),
    "long iTXt": with_text(itxt="y" * 1_500_000),
    "long tEXt": with_text(text="z" * 3_000_000),
    "many texts": with_chunk(PNG, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000)))] * 80),
    "a text that is no stream": with_chunk(PNG, chunk(b"zTXt", b"k\0\0garbage")),
    "a text that unpacks to 200 MB": with_chunk(PNG, chunk(b"zTXt", b"k\0\0" + BOMB)),
    "a profile that unpacks to 200 MB": with_chunk(PNG, chunk(b"iCCP", b"p\0\0" + BOMB)),
    "a large profile": encode(IMAGE, "PNG", icc_profile=SAME + bytes(2_000_000)),
    "a profile of another method": with_chunk(PNG, chunk(b"iCCP", b"p\0\1x")),
    "an empty profile": with_chunk(PNG, chunk(b"iCCP", b"")),
    "short pHYs": with_chunk(PNG, chunk(b"pHYs", b"x")),
    "short gAMA": with_chunk(PNG, chunk(b"gAMA", b"")),
    "short tIME": with_chunk(PNG, chunk(b"tIME", b"1")),
    "short tRNS": with_chunk(PNG, chunk(b"tRNS", b"1")),
    "short acTL": with_chunk(PNG, chunk(b"acTL", b"1")),
    "frames that do not follow": with_chunk(
        PNG, chunk(b"acTL", bytes(7) + b"\2"), chunk(b"fcTL", b"\0\0\0\7" + bytes(22))
    ),
    "an unknown chunk": with_chunk(PNG, chunk(b"abCd", b"anything")),
    "a name that is none": with_chunk(PNG, chunk(b"\xff\xfe\x00\x01", b"")),
    "text behind the pixels": PNG[:-12] + chunk(b"tEXt", b"k\0v", checksum=bytes(4)) + PNG[-12:],
    **{
        f"wrong checksum of {name.decode()}": with_chunk(PNG, chunk(name, data, checksum=bytes(4)))
        for name, data in {
            b"tEXt": b"k\0v",
            b"zTXt": b"k\0\0" + zlib.compress(b"v"),
            b"iTXt": b"k\0\0\0\0\0v",
            b"pHYs": b"\0\0\x0b\x13\0\0\x0b\x13\1",
            b"gAMA": b"\0\0\xb1\x8f",
            b"tRNS": bytes(6),
            b"bKGD": bytes(6),
            b"eXIf": b"II*\0\x08\0\0\0\0\0",
            b"acTL": bytes(7) + b"\2",
            b"abCd": b"anything",
        }.items()
    },
}


@pytest.mark.parametrize("name", BESIDE_PNG)
def test_no_chunk_beside_a_pngs_pixels_refuses_them(name: str) -> None:
    picture = decoded(BESIDE_PNG[name])
    assert picture.image.tobytes() == pixels(PNG)
    assert not picture.truncated


def test_a_wrong_checksum_of_the_palette_is_one_of_the_pixels() -> None:
    # As browsers do, which show nothing of it.
    data = encode(IMAGE.quantize(16))
    start = data.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    with pytest.raises(PictureProblem):
        decoded(data[: end - 4] + bytes(4) + data[end:])


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


BESIDE_JPEG = {
    "short JFIF": segment(0xE0, b"JFIF\0"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "empty Exif": segment(0xE1, b"Exif\0\0"),
    "a profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile's second piece of nine": segment(0xE2, b"ICC_PROFILE\0\2\x09" + bytes(100)),
    "no directory of further pictures": segment(0xE2, b"MPF\0garbage"),
    "half of Photoshop's": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\xff\xff"),
    "an empty comment": segment(0xFE, b""),
    "XMP that is no XML": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe\0<x:xmpmeta"),
    "fill bytes": b"\xff" * 9,
}


@pytest.mark.parametrize("name", BESIDE_JPEG)
def test_no_segment_beside_a_jpegs_pixels_refuses_them(name: str) -> None:
    data = JPEG[:2] + BESIDE_JPEG[name] + JPEG[2:]
    picture = decoded(data)
    assert picture.image.tobytes() == pixels(JPEG)
    assert not picture.truncated
    # Behind the header that says what kind of JPEG it is.
    start = 4 + int.from_bytes(JPEG[4:6], "big")
    for odd in (BESIDE_JPEG[name], b"\0\0garbage" + BESIDE_JPEG[name]):
        assert pixels(JPEG[:start] + odd + JPEG[start:]) == pixels(JPEG)


def test_a_jpeg_with_further_pictures_is_a_jpeg() -> None:
    data = encode(IMAGE, "MPO", save_all=True, append_images=[photo(2)])
    assert Image.open(BytesIO(data)).format == "MPO"
    picture = decoded(data)
    assert (picture.format, picture.width, picture.truncated) == ("JPEG", 120, False)


def test_what_follows_a_jpegs_end_does_not_matter() -> None:
    picture = decoded(JPEG + b"\0" * 5000 + b"trailer")
    assert (picture.image.tobytes(), picture.truncated) == (pixels(JPEG), False)


def test_a_profile_in_pieces_is_put_together_in_their_order() -> None:
    profile = rgb_profile(SWAPPED, 2.2)
    pieces = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((number, 2)) + piece)
        for number, piece in ((2, profile[200:]), (1, profile[:200]))
    ]
    assert take_apart(JPEG[:2] + b"".join(pieces) + JPEG[2:]).profile == profile
    assert take_apart(encode(IMAGE, "JPEG", icc_profile=profile)).profile == profile


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_a_profile_beyond_measure_is_none(format_: str) -> None:
    huge = rgb_profile(SWAPPED, 2.2).ljust(LARGEST_PROFILE + 1, b"\0")
    assert pixels(encode(IMAGE, format_, icc_profile=huge)) == pixels(encode(IMAGE, format_))


def test_only_the_first_page_of_a_tiff_counts_and_its_odd_tags_do_not() -> None:
    pages = encode(IMAGE, "TIFF", save_all=True, append_images=[photo(2, (120, 80))])
    assert pixels(pages) == pixels(encode(IMAGE, "TIFF"))
    odd = {282: 1.5, 296: 3, 305: "x" * 5000, 33723: b"\0" * 100, 34377: b"8BIM\xff", 700: b"<x"}
    assert pixels(encode(IMAGE, "TIFF", tiffinfo=odd)) == pixels(encode(IMAGE, "TIFF"))


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
@pytest.mark.parametrize("big", [False, True])
def test_tiffs_stay_what_they_are(compression: str | None, big: bool) -> None:
    data = encode(IMAGE, "TIFF", compression=compression, big_tiff=big)
    shown = Image.open(BytesIO(data)).convert("RGB")
    assert pixels(data) == shown.tobytes()
