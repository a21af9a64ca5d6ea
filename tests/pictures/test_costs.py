"""What a file may cost is known, and refused, before any pixel is decoded."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.pictures.costs import MOST_PARTS, MOST_SCANNED, MOST_SCANS, Limits
from app.pictures.decoding import decode
from app.problems import TooCostly
from tests.pictures.files import DISPLAY_P3, chunk, rgb_profile
from tests.samples import encode, photo

ROOT = Path(__file__).parents[2]


def told(data: bytes) -> int:
    """The bytes that decoding says it needs; nothing is decoded if it raises before."""
    needs: list[int] = []
    decode(data, max_pixels=100_000_000, model_side=128, need=needs.append)
    return max(needs)


def refused(data: bytes) -> str:
    """The reason why a file is refused before any of it is decoded."""
    needs: list[int] = []
    with pytest.raises(TooCostly) as caught:
        decode(data, max_pixels=100_000_000, need=needs.append)
    assert needs == []
    return caught.value.detail


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[start:-2] * scans + jpeg[-2:]


def test_scans_are_bounded_whatever_the_size() -> None:
    progressive = encode(photo(1), "JPEG", progressive=True)
    assert told(progressive) > 0
    assert told(with_scans(progressive, 50)) > 0
    assert "times" in refused(with_scans(progressive, MOST_SCANS))
    # In a file that ends early, too.
    assert "times" in refused(with_scans(progressive, MOST_SCANS)[:-2])


def test_scans_of_a_tiff_are_bounded() -> None:
    many = with_scans(encode(photo(1), "JPEG", progressive=True), MOST_SCANS + 1)
    assert "times" in refused(jpeg_in_tiff(many))
    few = with_scans(encode(photo(1), "JPEG", progressive=True), 2)
    with pytest.raises(TooCostly, match="overlap"):
        decode(jpeg_in_tiff(few, times=3), max_pixels=100_000_000)


def test_scans_and_pixels_are_bounded_together() -> None:
    limits = Limits(1000, 100_000_000, 256, lambda _: None, scans=25)
    limits.accept((8000, 9000))
    with pytest.raises(TooCostly):
        limits.accept((9000, 9000))
    assert 25 * 8000 * 9000 < MOST_SCANNED < 25 * 9000 * 9000


def test_scans_in_what_follows_an_image_do_not_count() -> None:
    assert told(encode(photo(1), "JPEG") + b"\xff\xda\0\x08" * 5000) > 0


PARTS = MOST_PARTS * 2


def png_of_chunks(count: int) -> bytes:
    packed = zlib.compress(b"\0\0\0\0" * 4, 0)
    idat = b"".join(chunk(b"IDAT", packed[i : i + 1]) for i in range(len(packed)))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 4, 8, 2, 0, 0, 0))
    return head + idat + chunk(b"IDAT", b"") * count + chunk(b"IEND", b"")


def jpeg_of_segments(count: int, segment: bytes) -> bytes:
    data = encode(photo(1, (64, 64)), "JPEG")
    return data[:2] + segment * count + data[2:]


def gif_of_blocks(count: int) -> bytes:
    data = encode(photo(1, (64, 64)), "GIF")
    start = 13 + 3 * 256
    return data[:start] + b"!\xfe" + b"\x01c" * count + b"\0" + data[start:]


def tiff(entries: list[tuple[int, int, int, int]], values: bytes = b"") -> bytes:
    """A TIFF of one directory, behind which `values` begin at 14 + 12 * entries."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + bytes(4) + values


def tiff_of_strips(count: int) -> bytes:
    start = 14 + 12 * 9
    values = struct.pack(f"<{count}I", *[start] * count) + struct.pack(f"<{count}I", *[2] * count)
    return tiff(
        [(256, 4, 1, 2), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
         (273, 4, count, start), (277, 3, 1, 1), (278, 4, 1, 1),
         (279, 4, count, start + 4 * count)],
        values,
    )  # fmt: skip


def jpeg_in_tiff(jpeg: bytes, *, times: int = 1) -> bytes:
    """A TIFF whose strips, one or several, are all the same JPEG of 256 x 256."""
    start = 14 + 12 * 9
    places = struct.pack(f"<{times}I", *[start + 8 * times] * times)
    places += struct.pack(f"<{times}I", *[len(jpeg)] * times)
    single = times == 1
    return tiff(
        [(256, 4, 1, 256), (257, 4, 1, 256 * times), (258, 3, 1, 8), (259, 3, 1, 7),
         (262, 3, 1, 6), (273, 4, times, start + 8 if single else start), (277, 3, 1, 3),
         (278, 4, 1, 256), (279, 4, times, len(jpeg) if single else start + 4 * times)],
        places + jpeg,
    )  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        png_of_chunks,
        lambda count: jpeg_of_segments(count, b"\xff\xdb\0\2"),
        lambda count: jpeg_of_segments(count, b"\xff\xfe\0\2"),
        gif_of_blocks,
        tiff_of_strips,
    ],
    ids=["chunks", "tables", "comments", "blocks", "strips"],
)
def test_parts_are_bounded(make: Callable[[int], bytes]) -> None:
    assert told(make(1000)) > 0
    assert "too many parts" in refused(make(PARTS))


def test_a_long_file_may_have_more_parts() -> None:
    # Blocks as encoders write them.
    data = encode(photo(1, (64, 64)), "GIF")
    start = 13 + 3 * 256
    comment = b"!\xfe" + (b"\xff" + b"c" * 255) * PARTS + b"\0"
    assert told(data[:start] + comment + data[start:]) > 0


def test_a_tile_counts_even_if_it_is_larger_than_its_image() -> None:
    packed = zlib.compress(bytes(1000 * 1000))
    data = tiff(
        [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
         (277, 3, 1, 1), (322, 4, 1, 1008), (323, 4, 1, 1008), (324, 4, 1, 14 + 12 * 10),
         (325, 4, 1, len(packed))],
        packed,
    )  # fmt: skip
    assert asked(data) > 1008 * 1008


def of_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header tells another size."""
    start = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg) + 5
    return jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :]


def asked(data: bytes) -> int:
    """What decoding asks for, before it does anything."""
    needs: list[int] = []
    with pytest.raises(TooCostly):
        decode(
            data,
            max_pixels=100_000_000,
            model_side=128,
            need=lambda size: needs.append(size) or _refuse(),
        )
    return needs[0]


def _refuse() -> None:
    raise TooCostly


def test_a_jpeg_costs_what_is_left_of_it_and_its_scans() -> None:
    """Of 100 million pixels, as the largest that are accepted have."""
    plain, scans, full = (
        of_size(encode(photo(1), "JPEG", **options), 10_000, 10_000)
        for options in ({}, {"progressive": True}, {"progressive": True, "subsampling": 0})
    )
    assert asked(plain) < 10_000_000
    # Two bytes for each coefficient of all planes until the last scan is read.
    assert asked(scans) == pytest.approx(300e6, rel=0.1)
    assert asked(full) == pytest.approx(600e6, rel=0.1)


STRIPS = ("L", "P", "RGB", "RGBA", "RGBA, cut", "16 bits", "JPEG", "GIF")


@cache
def kinds() -> dict[str, bytes]:
    """Files of 2 million pixels in every mode; in some, of a shape that is not reduced, too."""
    files: dict[str, bytes] = {}
    profile = rgb_profile(DISPLAY_P3, 2.2)
    turned = Image.Exif()
    turned[274] = 6
    for shape, size in {"square": (1400, 1400), "strip": (250, 8000)}.items():
        grey = Image.linear_gradient("L").resize(size)
        rgb = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey))
        rgba = rgb.copy()
        rgba.putalpha(grey)
        deep = np.asarray(grey).astype(np.uint16) * 257
        beside: dict[str, Any] = {"icc_profile": profile, "exif": turned}
        png: dict[str, Any] = {"compress_level": 1}
        files |= {
            f"{shape} {name}": data
            for name, data in {
                "1": encode(grey.convert("1"), "PNG", **png),
                "L": encode(grey, "PNG", **png, **beside),
                "LA": encode(Image.merge("LA", (grey, grey)), "PNG", **png),
                "P": encode(rgb.convert("P"), "PNG", transparency=3, **png, **beside),
                "RGB": encode(rgb, "PNG", **png, **beside),
                "RGB, a colour transparent": encode(rgb, "PNG", transparency=(3, 3, 3), **png),
                "RGBA": encode(rgba, "PNG", **png, **beside),
                "RGBA, cut": encode(rgba, "PNG", **png)[:-10_000],
                "16 bits": encode(Image.fromarray(deep), "PNG", **png),
                "16 bits, a level transparent": encode(
                    Image.fromarray(deep), "PNG", transparency=5, **png
                ),
                "32 bits": encode(Image.fromarray(deep.astype(np.int32)), "TIFF"),
                "floats": encode(Image.fromarray(deep.astype(np.float32) / 65535), "TIFF"),
                "CMYK": encode(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw"),
                "LAB": encode(rgb.convert("LAB"), "TIFF"),
                "JPEG": encode(rgb, "JPEG", **beside),
                "JPEG of scans": encode(rgb, "JPEG", progressive=True, **beside),
                "GIF": encode(
                    Image.new("RGBA", size, "white"), "GIF", save_all=True, append_images=[rgba]
                ),
                "BMP": encode(rgb, "BMP"),
                "WebP": encode(rgba, "WEBP", lossless=True, method=0, quality=0),
                "WebP, cut": encode(rgba, "WEBP", lossless=True, method=0, quality=0)[:-1000],
                "AVIF": encode(rgba, "AVIF", speed=10, subsampling="4:4:4"),
                "HEIF": encode(rgba, "HEIF", quality=20),
            }.items()
            if shape == "square" or name in STRIPS
        }
    return files


MEASURE = """
import json, os, resource, sys
from app.pictures.decoding import decode

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

with open(sys.argv[1], "rb") as file:
    decode(file.read(), max_pixels=10**8, model_side=128).facts()
for path in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    with open(path, "rb") as file:
        data = file.read()
    with open(sys.argv[1], "rb") as file:
        # What libraries load on first use, and what a forked process has yet to map.
        decode(file.read(), max_pixels=10**8, model_side=128).facts()
    needs, before = [], peak()
    decode(data, max_pixels=10**8, model_side=128, need=needs.append).facts()
    print(json.dumps([path, max(needs), peak() - before]), flush=True)
    os._exit(0)
"""


def test_no_mode_takes_more_than_it_says(tmp_path: Path) -> None:
    """Each file is decoded in a process of its own, as only peaks of processes can be measured."""
    for number, data in enumerate(kinds().values()):
        (tmp_path / f"{number}").write_bytes(data)
    (tmp_path / "small").write_bytes(encode(photo(1)))
    names = [str(tmp_path / f"{number}") for number in range(len(kinds()))]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "small"), *names],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    measured = [json.loads(line) for line in done.stdout.splitlines()][1:]
    over = {
        kind: (told, peak)
        for kind, (_, told, peak) in zip(kinds(), measured, strict=True)
        if peak > told * 1.1 + 8_000_000
    }
    assert over == {}


def test_deep_pixels_are_converted_in_strips_as_at_once() -> None:
    deep = np.arange(1300 * 1000, dtype=np.uint32).reshape(1300, 1000).astype(np.uint16)
    shown = Image.open(BytesIO(encode(Image.fromarray(deep))))
    image = decode(encode(shown), max_pixels=10_000_000, model_side=1000).image
    assert np.array_equal(
        np.asarray(image)[..., 0], np.round(deep.astype(np.float64) / 257).astype(np.uint8)
    )
