"""Every format with every mode, depth, profile and orientation it can have, whole and cut.

Each file shows the same photo, so each must give the same picture.
"""

from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from app.pictures.decoding import DECODER, Picture, decode
from app.problems import PictureProblem
from tests.pictures.files import SRGB, rgb_profile
from tests.samples import encode, photo

PHOTO = photo(1, (300, 200))
# Modes in which each format is written, with what the encoder is told.
LOSSY = {"quality": 92}
WRITTEN: dict[str, dict[str, dict[str, Any]]] = {
    "JPEG": {"L": LOSSY, "RGB": LOSSY, "CMYK": LOSSY},
    "PNG": {"1": {}, "L": {}, "I;16": {}, "LA": {}, "P": {}, "RGB": {}, "RGBA": {}},
    "GIF": {"L": {}, "P": {}, "RGB": {}},
    "BMP": {"1": {}, "L": {}, "P": {}, "RGB": {}},
    "TIFF": {"1": {}, "L": {}, "I;16": {}, "I": {}, "F": {}, "P": {}, "RGB": {}, "RGBA": {}}
    | {"CMYK": {}, "YCbCr": {}},
    "WEBP": {"RGB": LOSSY, "RGBA": LOSSY, "L": LOSSY},
    "AVIF": {"RGB": LOSSY, "RGBA": LOSSY, "L": LOSSY},
    "HEIF": {"RGB": LOSSY, "RGBA": LOSSY, "L": LOSSY},
}
# Orientations are put into files that these write.
TURNED = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF")
PROFILE = rgb_profile(SRGB, 2.2)
UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

FILES = [
    (format_, mode, orientation)
    for format_, modes in WRITTEN.items()
    for mode in modes
    for orientation in (UNDO if format_ in TURNED else (1,))
]
# PNG and WebP have the orientation behind the pixels, where it is lost.
CUT = [f for f in FILES if f[2] == 1 or (f[2] == 6 and f[0] not in ("PNG", "WEBP"))]


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    grey = np.asarray(image.convert("L"))
    match mode:
        case "I;16":
            return Image.fromarray(grey.astype(np.uint16) * 257)
        case "I":
            return Image.fromarray(grey.astype(np.int32) * 257)
        case "F":
            return Image.fromarray(grey.astype(np.float32) / 255)
        case "P":
            return image.quantize(200)
        case _:
            return image.convert(mode)


def file(format_: str, mode: str, orientation: int, *, profile: bool = False) -> bytes:
    undo = UNDO[orientation]
    image = in_mode(PHOTO, mode)
    stored = image if undo is None else image.transpose(undo)
    options = dict(WRITTEN[format_][mode])
    if profile:
        options["icc_profile"] = PROFILE
    if orientation != 1 and format_ == "TIFF":
        options["tiffinfo"] = {ExifTags.Base.Orientation: orientation}
    elif orientation != 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif.tobytes()
    return encode(stored, format_, **options)


def decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=1_000_000, model_side=64)


def difference(picture: Picture, mode: str) -> float:
    """The mean difference, in levels, at a size at which dithering and compression hardly count."""
    expected = PHOTO if mode not in ("1", "L", "LA", "I", "I;16", "F") else PHOTO.convert("L")
    small = [
        np.asarray(image.convert("RGB").resize((30, 20), Image.Resampling.BOX), int)
        for image in (picture.image, expected)
    ]
    return float(np.abs(small[0] - small[1]).mean())


@pytest.mark.parametrize(("format_", "mode", "orientation"), FILES)
def test_the_same_photo_is_the_same_picture(format_: str, mode: str, orientation: int) -> None:
    data = file(format_, mode, orientation)
    picture = decoded(data)
    assert (picture.width, picture.height, picture.format) == (300, 200, format_)
    assert picture.image.mode == "RGB"
    assert difference(picture, mode) < 4
    facts = (picture.truncated, picture.too_plain, picture.decoder)
    assert facts == (False, False, DECODER)


@pytest.mark.parametrize("format_", TURNED)
def test_a_profile_changes_a_turned_picture_as_little_as_one_that_is_not(format_: str) -> None:
    for mode in WRITTEN[format_]:
        for orientation in (1, 6):
            picture = decoded(file(format_, mode, orientation, profile=True))
            assert difference(picture, mode) < 6
            assert (picture.width, picture.height) == (300, 200)


@pytest.mark.parametrize(("format_", "mode", "orientation"), CUT)
def test_a_cut_file_is_most_of_the_picture_or_refused(
    format_: str, mode: str, orientation: int
) -> None:
    data = file(format_, mode, orientation)
    for share in (0.02, 0.2, 0.6, 0.97):
        picture = read(data[: round((1 - share) * len(data))])
        # A TIFF in pieces has its directory at its end, and HEIF its transparency.
        if picture is None:
            assert share > 0.3 or format_ == "TIFF" or (format_, mode) == ("HEIF", "RGBA")
        else:
            assert share < 0.7
            assert (picture.truncated, picture.width, picture.height) == (True, 300, 200)
            assert difference(picture, mode) < 5 + 130 * share


def read(data: bytes) -> Picture | None:
    try:
        return decoded(data)
    except PictureProblem:
        return None
