"""Files that end early: read if most of their pixels are there, and refused if not."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile

from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.pictures import truncation
from app.pictures.decoding import Picture, decode
from app.problems import DamagedPicture, Problem
from tests.pictures.files import chunk
from tests.samples import cosine, encode, photo

IMAGE = photo(1, (320, 240))
OTHER = photo(2, (320, 240))


def decoded(data: bytes) -> Picture:
    return decode(data, max_pixels=10_000_000)


def deep() -> Image.Image:
    return Image.fromarray(np.asarray(IMAGE.convert("L"), np.uint16) * 257)


def clear() -> Image.Image:
    return Image.merge("RGBA", (*IMAGE.split(), Image.linear_gradient("L").resize(IMAGE.size)))


FILES = {
    "JPEG": encode(IMAGE, "JPEG"),
    "grey JPEG": encode(IMAGE.convert("L"), "JPEG"),
    "CMYK JPEG": encode(IMAGE.convert("CMYK"), "JPEG"),
    "JPEG of full colours": encode(IMAGE, "JPEG", subsampling=0),
    "PNG": encode(IMAGE),
    "palette PNG": encode(IMAGE.quantize(64)),
    "bilevel PNG": encode(IMAGE.convert("1")),
    "deep PNG": encode(deep()),
    "clear PNG": encode(clear()),
    "GIF": encode(IMAGE, "GIF", interlace=0),
    "interlaced GIF": encode(IMAGE, "GIF", interlace=1),
    "clear GIF": encode(IMAGE.quantize(255), "GIF", transparency=255, interlace=0),
    "BMP": encode(IMAGE, "BMP"),
    "TIFF": encode(IMAGE, "TIFF"),
    "deep TIFF": encode(deep(), "TIFF"),
    "WEBP": encode(IMAGE, "WEBP"),
    "lossless WEBP": encode(IMAGE, "WEBP", lossless=True),
    "clear WEBP": encode(clear(), "WEBP"),
    "AVIF": encode(IMAGE, "AVIF"),
    "HEIF": encode(IMAGE, "HEIF"),
}


def cut(data: bytes, share: float) -> bytes:
    return data[: len(data) - max(2, round(share * len(data)))]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_if_most_of_its_pixels_are_there(name: str) -> None:
    whole = decoded(FILES[name])
    assert not whole.truncated
    shown = np.asarray(whole.image, int)
    for share in (0.002, 0.1, 0.25):
        picture = decoded(cut(FILES[name], share))
        assert picture.truncated, share
        assert (picture.width, picture.height) == (320, 240)
        same = np.abs(np.asarray(picture.image, int) - shown).max(axis=2) <= 8
        assert same.mean() > 0.9 - 1.4 * share, share


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_refused_if_most_of_its_pixels_are_not(name: str) -> None:
    with pytest.raises(DamagedPicture) as caught:
        decoded(cut(FILES[name], 0.85))
    assert "% of its pixels are missing" in caught.value.detail


def test_the_share_that_is_missing_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BMP", "TIFF", "deep TIFF"):
        with pytest.raises(DamagedPicture, match=r"60% of its pixels"):
            decoded(cut(FILES[name], 0.6))
    monkeypatch.setattr(truncation, "MOST_MISSING", -1.0)
    # Photos' rows compress to about the same number of bytes.
    for name, data in FILES.items():
        with pytest.raises(DamagedPicture) as caught:
            decoded(cut(data, 0.3))
        share = int(caught.value.detail.split("%")[0].split()[-1])
        assert 15 <= share <= 40, name


@pytest.mark.parametrize("missing", [2, 3, 6, 20])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_bytes_is_read(missing: int, progressive: bool) -> None:
    for image in (IMAGE, Image.new("RGB", (640, 480), (128, 128, 128)), photo(3, (90, 70))):
        data = encode(image, "JPEG", progressive=progressive)
        picture = decoded(data[:-missing])
        assert picture.truncated
        assert (picture.width, picture.height) == image.size


def test_a_jpeg_of_one_block_is_read_without_its_end_marker() -> None:
    for size in ((1, 1), (8, 8), (3, 200)):
        assert decoded(encode(photo(1, size), "JPEG")[:-2]).truncated


def test_a_progressive_jpeg_is_there_once_its_first_scan_is() -> None:
    data = encode(IMAGE, "JPEG", progressive=True)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    whole = np.asarray(decoded(data).image, int)
    # Wherever it is cut: in a scan, in a scan's header, in a table before it.
    for end in {scans[1] + 30, *range(scans[2] - 25, scans[2] + 20, 3), scans[3] - 1}:
        picture = decoded(data[:end])
        assert picture.truncated
        assert np.abs(np.asarray(picture.image, int) - whole).mean() < 30
    with pytest.raises(DamagedPicture):
        decoded(data[: scans[0] + 60])


def test_a_jpeg_whose_middle_is_missing_has_an_end_and_is_cut_all_the_same() -> None:
    data = FILES["JPEG"]
    assert decoded(data[: len(data) * 3 // 4] + b"\xff\xd9").truncated
    with pytest.raises(DamagedPicture, match="of its pixels are missing"):
        decoded(data[: len(data) // 4] + b"\xff\xd9")


def test_pictures_that_end_in_the_grey_of_missing_blocks_are_whole() -> None:
    for mode, grey in (("L", 128), ("RGB", (128, 128, 128))):
        assert not decoded(encode(Image.new(mode, (64, 48), grey), "JPEG")).truncated


def test_a_picture_in_black_or_white_is_not_taken_for_an_empty_canvas() -> None:
    for format_ in ("PNG", "GIF", "BMP", "TIFF"):
        for colour in ("black", "white"):
            # Noise above, so that all of the flat part is missing.
            image = Image.new("RGB", (200, 200), colour)
            image.paste(photo(1, (200, 140)), (0, 0))
            data = encode(image, format_)
            assert decoded(cut(data, 0.01)).truncated


def test_a_damaged_place_within_counts_like_an_end() -> None:
    data = bytearray(encode(IMAGE, compress_level=1))
    place = len(data) * 3 // 4
    data[place : place + 40] = bytes(40)
    assert decoded(bytes(data)).truncated
    place = len(data) // 4
    data[place : place + 40] = bytes(40)
    with pytest.raises(DamagedPicture):
        decoded(bytes(data))


def test_rows_that_the_last_pass_of_a_png_did_not_reach_are_shown_like_those_above() -> None:
    # Pillow writes none that are interlaced: each pass is a small PNG of its own.
    pixels = np.asarray(IMAGE.convert("L"))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for left, top, across, down in [*passes, (0, 1, 1, 2)]
        for row in pixels[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", 320, 240, 8, 0, 0, 0, 1)

    def file(share: float) -> bytes:
        body = zlib.compress(rows, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body)
        return data[: round(share * len(data))]

    assert np.array_equal(np.asarray(decoded(file(1)).image)[..., 0], pixels)
    picture = decoded(file(0.6))
    shown = np.asarray(picture.image)[..., 0]
    assert picture.truncated
    assert np.array_equal(shown[::2], pixels[::2])
    assert np.array_equal(shown[201::2], pixels[200::2])
    with pytest.raises(DamagedPicture, match="of its pixels are missing"):
        decoded(file(0.3))


def test_an_animation_is_cut_where_its_first_frame_is() -> None:
    for format_ in ("GIF", "WEBP"):
        data = encode(IMAGE, format_, save_all=True, append_images=[OTHER])
        assert np.array_equal(
            np.asarray(decoded(cut(data, 0.2)).image), np.asarray(decoded(data).image)
        )
        with pytest.raises(DamagedPicture):
            decoded(cut(data, 0.9))


def test_a_file_that_claims_to_be_far_larger_than_it_is_is_not_filled_up() -> None:
    data = bytearray(FILES["AVIF"])
    place = data.index(b"mdat") - 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(DamagedPicture, match="100% of its pixels"):
        decoded(bytes(data))
    for name in ("WEBP", "lossless WEBP"):
        data = bytearray(FILES[name])
        # All of the file, and its chunk of pixels, too.
        for place in (4, 16):
            data[place : place + 4] = b"\xff\xff\xff\xff"
            assert decoded(bytes(data)).truncated
        completion = truncation.completion_of(bytes(data))
        assert completion is not None
        assert max(map(len, completion.versions())) < 10 * len(data) + 1_000_000


def test_a_file_without_its_directory_is_damaged() -> None:
    data = encode(IMAGE, "TIFF", compression="tiff_lzw")
    with pytest.raises(DamagedPicture):
        decoded(data[:-100])
    for name, data in FILES.items():
        for size in (5, 30, 60):
            with pytest.raises(Problem):
                decoded(data[:size]), name


def test_a_cut_photo_is_still_told_from_others() -> None:
    model = OnnxModel(BUILTIN_DIRECTORY, name="builtin")

    def vector(data: bytes) -> np.ndarray:
        return model.embed_images([model.prepare(decoded(data).image)])[0]

    whole = vector(FILES["JPEG"])
    assert cosine(vector(cut(FILES["JPEG"], 0.1)), whole) > 0.9
    assert cosine(vector(encode(OTHER, "JPEG")), whole) < 0.9


def test_what_is_read_of_a_cut_file_does_not_hang_on_other_threads() -> None:
    files = [cut(data, share) for data in FILES.values() for share in (0, 0.1)]
    alone = [decoded(data).image.tobytes() for data in files]
    with ThreadPoolExecutor(8) as threads:
        together = [picture.image.tobytes() for picture in threads.map(decoded, files * 2)]
    assert together == alone * 2
    # No setting of Pillow's was changed on the way.
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(OSError, match="truncated"):
        Image.open(BytesIO(cut(FILES["PNG"], 0.1))).load()
