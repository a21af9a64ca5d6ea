"""EXIF of every kind of wrong costs the tag, never the image."""

import json
import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from app.pictures.decoding import Picture, decode
from app.pictures.tags import Block, named_tags, orientation
from tests.pictures.files import chunk, entry, exif, turn, with_chunk
from tests.samples import encode, photo

# Taller than wide, so that a turn shows.
IMAGE = photo(1, (60, 90))
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
MAKE = entry(0x10F, 2, 4, b"Cam\0")


def decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=1_000_000)


def file_with(block: bytes, format_: str = "JPEG") -> bytes:
    """A file with an EXIF block as it is; Pillow and the libraries would not write most of them."""
    if format_ == "JPEG":
        data, segment = encode(IMAGE, "JPEG"), struct.pack(">H", len(block) + 2) + block
        return data[:2] + b"\xff\xe1" + segment + data[2:]
    if format_ == "PNG":
        return with_chunk(encode(IMAGE), chunk(b"eXIf", block.removeprefix(b"Exif\0\0")))
    if format_ == "WEBP":
        return encode(IMAGE, "WEBP", exif=block)
    if format_ == "TIFF":
        return encode(IMAGE, "TIFF")
    sound = Image.Exif()
    sound[ExifTags.Base.Make] = "x" * len(block)
    whole = sound.tobytes()[6:]
    data = encode(IMAGE, format_, exif=whole)
    assert data.count(whole) == 1
    return data.replace(
        whole, block.removeprefix(b"Exif\0\0").ljust(len(whole), b"\0")[: len(whole)]
    )


BAD = {
    "no block at all": b"Exif\0\0",
    "half a header": b"Exif\0\0II*",
    "no TIFF header": b"Exif\0\0not a TIFF header",
    "another version": b"Exif\0\0II\x99\0\x08\0\0\0\0\0",
    "a directory that is nowhere": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "a directory in itself": b"Exif\0\0II*\0\0\0\0\0\0\0",
    "more entries than there are": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + turn(1),
    "half an entry": exif(turn(1))[:-10],
    "orientation as text": exif(entry(0x112, 2, 2, b"6\0")),
    "orientation as undefined bytes": exif(entry(0x112, 7, 4, b"\x06\0\0\0")),
    "orientation as a float": exif(entry(0x112, 11, 1, struct.pack("<f", 6))),
    "orientation as a rational": exif(entry(0x112, 5, 1, b"\x1a\0\0\0"), extra=b"\6\0\0\0\1\0\0\0"),
    "orientation below zero": exif(entry(0x112, 8, 1, struct.pack("<h", -6))),
    "no orientation in it": exif(entry(0x112, 3, 0, b"")),
    "orientation of an unknown type": exif(entry(0x112, 99, 1, b"\6\0")),
    "NaN": exif(entry(0x11A, 11, 1, struct.pack("<f", float("nan")))),
    "over zero": exif(entry(0x11A, 5, 1, b"\x1a\0\0\0"), extra=struct.pack("<II", 72, 0)),
    "text where a number belongs": exif(entry(0x100, 2, 4, b"ab\0")),
    "resolution as one byte": exif(entry(0x128, 3, 1, b"\3\0"), entry(0x11A, 7, 1, b"x")),
    "values that are nowhere": exif(entry(0x10F, 2, 9999, b"\xff\xff\xff\0")),
    "a subdirectory that is nowhere": exif(entry(0x8769, 4, 1, b"\xff\xff\xff\x7f")),
    "a subdirectory as text": exif(entry(0x8769, 2, 4, b"abc\0"), entry(0x8825, 2, 4, b"abc\0")),
    "a subdirectory that is the first": exif(entry(0x8769, 4, 1, b"\x08\0\0\0")),
}


@pytest.mark.parametrize("format_", FORMATS)
def test_bad_exif_refuses_no_image_and_turns_none(format_: str) -> None:
    size = decoded(encode(IMAGE, format_)).image.size
    for name, block in BAD.items():
        picture = decoded(file_with(block, format_))
        assert (picture.width, picture.height, picture.image.size) == (60, 90, size), name
        assert picture.exif.get("Orientation", 1) == 1, name
        json.dumps(picture.exif, allow_nan=False)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_out_of_range_is_none(value: int) -> None:
    picture = decoded(file_with(exif(turn(value))))
    assert (picture.width, picture.height, picture.image.size) == (60, 90, (60, 90))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_an_orientation_may_be_any_integer_and_bad_tags_beside_it(value: int, kind: int) -> None:
    said = entry(0x112, kind, 1, value.to_bytes(4, "little"))
    nan = entry(0x11A, 11, 1, struct.pack("<f", float("nan")))
    picture = decoded(file_with(exif(entry(0x100, 2, 4, b"ab\0"), MAKE, said, nan)))
    size = (60, 90) if value < 5 else (90, 60)
    assert (picture.width, picture.height) == picture.image.size == size
    assert picture.exif["Make"] == "Cam"
    assert "XResolution" not in picture.exif


@pytest.mark.parametrize("value", [1, 3, 6])
def test_a_tiff_is_turned_by_its_own_tag_and_others_do_not_matter(value: int) -> None:
    data = encode(IMAGE, "TIFF", tiffinfo={274: value, 271: "Cam", 296: 3, 282: 5.0, 283: 5.0})
    whole = decoded(data)
    size = (60, 90) if value < 5 else (90, 60)
    assert (whole.width, whole.height) == whole.image.size == size
    assert whole.exif["Make"] == "Cam"
    # A resolution in centimetres that is a text stops Pillow.
    resolution = struct.pack("<HH", 282, 5)
    assert data.count(resolution) == 1
    odd = decoded(data.replace(resolution, struct.pack("<HH", 282, 2)))
    assert odd.image.tobytes() == whole.image.tobytes()


def test_numbers_that_are_none_keep_their_place() -> None:
    seconds = struct.pack("<6I", 48, 1, 51, 1, 0, 0)
    gps = struct.pack("<H", 2) + entry(1, 7, 1, b"S") + entry(2, 5, 3, struct.pack("<I", 56))
    block = exif(entry(0x8825, 4, 1, struct.pack("<I", 26)), extra=gps + bytes(4) + seconds)
    tags = decoded(file_with(block)).exif
    assert (tags["GPSLatitudeRef"], tags["GPSLatitude"]) == ("S", "48.0 51.0 nan")


def test_texts_are_read_in_the_letters_they_were_written_in() -> None:
    for written in ("Café".encode(), "Café".encode("latin-1")):
        block = exif(entry(0x10F, 2, 8, struct.pack("<I", 26)), extra=written.ljust(8, b"\0"))
        assert named_tags(Block(block)) == {"Make": "Café"}


VALUES = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.integers(0, 2**32 - 1).map(lambda value: struct.pack("<I", value)),
    st.floats(width=32).map(lambda value: struct.pack("<f", value)),
)
TAGS = st.sampled_from(
    [0x100, 0x10F, 0x112, 0x11A, 0x128, 0x132, 0x8769, 0x8825, 0x9003, 0x829D, 1, 2, 3, 4, 29]
)
ENTRIES = st.builds(entry, TAGS, st.integers(0, 19), st.integers(0, 2**32 - 1), VALUES)
BLOCKS = st.one_of(
    st.binary(max_size=200).map(lambda data: b"Exif\0\0" + data),
    st.builds(
        lambda entries, extra, cut: exif(*entries, extra=extra)[: cut or None],
        st.lists(ENTRIES | TAGS.map(lambda tag: entry(tag, 4, 1, b"\x08\0\0\0")), max_size=8),
        st.binary(max_size=120),
        st.integers(-40, 0),
    ),
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(BLOCKS)
def test_any_block_is_tags_that_json_can_hold(block: bytes) -> None:
    tags = named_tags(Block(block))
    assert json.loads(json.dumps(tags, allow_nan=False)) == tags
    assert not any("\0" in value for value in tags.values() if isinstance(value, str))
    assert orientation(Block(block)) in range(1, 9)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(BLOCKS, st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_any_block_leaves_the_pixels_as_they_are(block: bytes, format_: str) -> None:
    plain = encode(IMAGE, format_)
    picture = decoded(file_with(block, format_))
    turned = {
        transposed.tobytes()
        for transposed in (
            decoded(plain).image,
            *(decoded(plain).image.transpose(way) for way in Image.Transpose),
        )
    }
    assert picture.image.tobytes() in turned
    assert (picture.width, picture.height) == picture.image.size


def test_a_block_of_many_tags_is_read_in_a_moment() -> None:
    # Each of 60,000 entries points at all of the block.
    block = exif(*[entry(0x10F, 2, 700_000, b"\0\0\0\0")] * 60_000)
    assert named_tags(Block(block)).keys() <= {"Make"}


def test_big_tiff_has_wider_entries() -> None:
    data = encode(IMAGE, "TIFF", big_tiff=True, tiffinfo={271: "Cam", 274: 6})
    assert Image.open(BytesIO(data)).tag_v2[271] == "Cam"  # pyright: ignore[reportAttributeAccessIssue]
    picture = decoded(data)
    assert (picture.width, picture.height, picture.exif["Make"]) == (90, 60, "Cam")
