"""Image files for tests, encoded for real, and procedural photos by number."""

import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from app.pictures.decoding import Facts
from training.data.procedural import dead_leaves

pillow_heif.register_heif_opener()


def photo(seed: int, size: tuple[int, int] = (256, 256)) -> Image.Image:
    """Return a procedural RGB image; different seeds give clearly different images."""
    return Image.fromarray(dead_leaves(np.random.default_rng(2000 + seed), 256)).resize(size)


def encode(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def png(seed: int) -> bytes:
    return encode(photo(seed))


def altered(data: bytes) -> bytes:
    """Return an image file at half its size, as a JPEG of quality 30."""
    image = Image.open(BytesIO(data))
    image = image.convert("RGB" if image.mode != "L" else "L")
    half = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
    return encode(half, "JPEG", quality=30)


def huge_header(width: int, height: int) -> bytes:
    """Return a tiny PNG whose header claims a huge size."""
    small = bytearray(encode(Image.new("L", (1, 1))))
    small[16:20] = width.to_bytes(4, "big")
    small[20:24] = height.to_bytes(4, "big")
    small[29:33] = zlib.crc32(small[12:29]).to_bytes(4, "big")
    return bytes(small)


def cosine(a: Any, b: Any) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def facts(**given: Any) -> Facts:
    """Return a picture's `Facts`, with defaults for all that is not given."""
    defaults: dict[str, Any] = {
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "sha256": "0" * 64,
        "file_bytes": 1,
        "dhash": 0,
        "exif": {},
        "colours": [],
        "thumbnail": b"",
    }
    return Facts(**{**defaults, **given})
