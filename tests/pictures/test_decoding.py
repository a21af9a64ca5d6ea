import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image

from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.pictures.decoding import MEDIA_TYPES, Picture, decode, dhash, hamming
from app.problems import DamagedPicture, EmptyPicture, NotAPicture, Problem, TooManyPixels
from tests.samples import cosine, encode, huge_header, photo, png


def decoded(data: bytes, max_pixels: int = 100_000_000) -> Picture:
    return decode(data, max_pixels=max_pixels)


def difference(picture: Picture, image: Image.Image) -> float:
    shown = np.asarray(picture.image, np.float64)
    return float(np.abs(shown - np.asarray(image.convert("RGB"), np.float64)).mean())


@pytest.mark.parametrize("format_", [name for name in MEDIA_TYPES if name != "MPO"])
def test_every_format_is_read(format_: str) -> None:
    image = photo(1, (200, 120))
    picture = decoded(encode(image, format_, **({"quality": 95} if format_ == "AVIF" else {})))
    assert (picture.width, picture.height, picture.format) == (200, 120, format_)
    assert picture.image.mode == "RGB"
    assert difference(picture, image) < 12


def test_a_picture_tells_its_file() -> None:
    data = png(1)
    picture = decoded(data)
    assert picture.file_bytes == len(data)
    assert len(picture.sha256) == 64
    thumbnail = Image.open(BytesIO(picture.thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 256))


def test_a_large_picture_is_shrunk_and_keeps_its_size() -> None:
    picture = decoded(encode(photo(1, (3000, 2000)), "JPEG"))
    assert (picture.width, picture.height) == (3000, 2000)
    assert 512 <= min(picture.image.size) < 1100
    assert min(Image.open(BytesIO(picture.thumbnail)).size) == 256


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 5)])
def test_tiny_and_thin_pictures_are_read(size: tuple[int, int]) -> None:
    picture = decoded(encode(Image.new("RGB", size, "teal")))
    assert (picture.width, picture.height) == size
    Image.open(BytesIO(picture.thumbnail)).load()


@pytest.mark.parametrize(
    ("mode", "format_"),
    [("L", "PNG"), ("1", "PNG"), ("P", "GIF"), ("LA", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_other_modes_look_the_same(mode: str, format_: str) -> None:
    image = photo(1).convert(mode)
    assert difference(decoded(encode(image, format_)), image) < 8


def test_deep_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256 * 256).reshape(256, 256).astype(np.uint16)
    for format_ in ("PNG", "TIFF"):
        shown = np.asarray(decoded(encode(Image.fromarray(ramp), format_)).image)
        assert np.abs(shown[..., 0].astype(int) - ramp / 257).max() <= 1


def test_float_tiffs_are_read() -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64).astype(np.float32)
    shown = np.asarray(decoded(encode(Image.fromarray(ramp), "TIFF")).image)
    assert np.abs(shown[..., 0].astype(int) - ramp * 255).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0)).convert(mode if mode != "PA" else "RGBA")
    if mode == "PA":
        clear = clear.convert("P")
        clear.info["transparency"] = clear.getpixel((0, 0))
    data = encode(clear, "PNG", **({"transparency": 0} if mode == "PA" else {}))
    picture = decoded(data)
    if mode != "PA":
        assert np.asarray(picture.image).min() == 255
    assert picture.image.mode == "RGB"


def test_a_transparent_palette_lies_on_white() -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([255, 0, 0, 0, 0, 0])
    data = encode(image, "PNG", transparency=1)
    assert np.asarray(decoded(data).image).min() == 255


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [photo(seed, (64, 64)) for seed in (1, 2)]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert difference(decoded(data), frames[0]) < 1


def turned(image: Image.Image, orientation: int) -> bytes:
    """A file whose pixels, put right by its EXIF orientation, show `image`."""
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for step in undo.get(orientation, []):
        image = image.transpose(step)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encode(image, "PNG", exif=exif)


def test_all_eight_orientations_give_the_same_vector() -> None:
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")
    image = photo(1, (300, 200))
    upright = model.embed_images([model.prepare(image)])[0]
    for orientation in range(1, 9):
        picture = decoded(turned(image, orientation))
        assert (picture.width, picture.height) == (300, 200)
        vector = model.embed_images([model.prepare(picture.image)])[0]
        assert cosine(vector, upright) == pytest.approx(1, abs=1e-3)


def test_exif_is_kept_as_readable_values() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera\0 Maker"
    exif[ExifTags.Base.XResolution] = 72.5
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 2.8
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (51.0, 30.0, 0.0)
    tags = decoded(encode(photo(1), "JPEG", exif=exif)).exif
    assert tags["Make"] == "Camera Maker"
    assert tags["XResolution"] == 72.5
    assert tags["FNumber"] == pytest.approx(2.8)
    assert tags["GPSLatitude"] == "51.0 30.0 0.0"


def broken_checksum() -> bytes:
    data = bytearray(png(1))
    place = data.index(b"IDAT") + 2000
    data[place : place + 40] = bytes(40)
    return bytes(data)


def bomb() -> bytes:
    """60,000 x 60,000 grey pixels in a few kilobytes."""
    rows = zlib.compress(bytes(60_001) * 4, 9)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", EmptyPicture),
        (b"not a picture at all", NotAPicture),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NotAPicture),
        (b"%PDF-1.7\n", NotAPicture),
        (b"\xff\xd8\xff\xe0", NotAPicture),
        (png(1)[:1000], DamagedPicture),
        (encode(photo(1), "JPEG")[:2000], DamagedPicture),
        (encode(photo(1), "WEBP")[:1000], DamagedPicture),
        (encode(photo(1), "GIF")[:3000], DamagedPicture),
        (encode(photo(1), "BMP")[:3000], DamagedPicture),
        (encode(photo(1), "TIFF")[:3000], Problem),
        (encode(photo(1), "AVIF")[:1500], Problem),
        (encode(photo(1), "HEIF")[:1500], Problem),
        (broken_checksum(), DamagedPicture),
        (huge_header(2**31 - 1, 2**31 - 1), TooManyPixels),
        (bomb(), TooManyPixels),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_cannot_be_read_is_a_clear_problem(data: bytes, problem: type[Problem]) -> None:
    with pytest.raises(problem) as caught:
        decoded(data)
    assert 400 <= caught.value.status < 500


def test_the_pixel_limit_holds_before_any_pixel_is_decoded() -> None:
    # Its pixels are missing: to look at them would be another problem.
    data = huge_header(200, 100)
    with pytest.raises(TooManyPixels) as caught:
        decoded(data, max_pixels=19_999)
    assert "200 x 100" in caught.value.detail
    with pytest.raises(DamagedPicture):
        decoded(data, max_pixels=20_000)


def test_the_canvas_of_a_webp_is_looked_at_before_it_is_made() -> None:
    # 16 million pixels a side, for which there is no memory.
    frames = [photo(seed, (64, 64)) for seed in (1, 2)]
    data = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff" * 6
    for cut in (0, 2):
        with pytest.raises(TooManyPixels, match="16777216 x 16777216"):
            decoded(bytes(data[: len(data) - cut]))
    for lossless in (False, True):
        with pytest.raises(TooManyPixels, match="300 x 200"):
            decoded(encode(photo(1, (300, 200)), "WEBP", lossless=lossless), max_pixels=59_999)


def test_the_hash_of_a_picture_survives_alteration_and_tells_others_apart() -> None:
    image = photo(1)
    small = image.resize((90, 90)).convert("L").convert("RGB")
    assert hamming(dhash(image), dhash(small)) <= 6
    assert hamming(dhash(image), dhash(photo(2))) > 16
    assert -(2**63) <= dhash(image) < 2**63
    assert hamming(-1, 0) == 64
