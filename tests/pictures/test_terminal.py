"""Thumbnails as terminals show them, read back by the rules of each protocol."""

import base64
import re
from io import BytesIO

import numpy as np
from PIL import Image

from app.pictures.terminal import COLOURS, HEIGHT, PIECE, in_terminal
from tests.samples import encode, photo


def jpeg(size: tuple[int, int]) -> bytes:
    return encode(photo(1).resize(size), "JPEG", quality=95)


def from_kitty(text: str) -> Image.Image:
    pieces = re.findall("\x1b_G(.*?);(.*?)\x1b\\\\", text)
    assert pieces[0][0].startswith("a=T,f=100,q=2,m=")
    more = [keys.rpartition("m=")[2] for keys, _ in pieces]
    assert more == ["1"] * (len(pieces) - 1) + ["0"]
    assert all(len(piece) <= PIECE for _, piece in pieces)
    data = base64.b64decode("".join(piece for _, piece in pieces), validate=True)
    return Image.open(BytesIO(data))


def from_sixel(text: str) -> Image.Image:
    found = re.fullmatch('\x1bPq"1;1;(\\d+);(\\d+)(.*)\x1b\\\\\n', text, re.DOTALL)
    assert found
    width, height, body = int(found[1]), int(found[2]), found[3]
    palette: dict[int, tuple[int, ...]] = {}
    pixels = np.zeros((height + 6, width, 3), np.uint8)
    x, top, colour = 0, 0, 0
    token = r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)"
    for part in re.finditer(token, body):
        number, r, g, b, chosen, times, repeated, single, back, down = part.groups()
        if number is not None:
            palette[int(number)] = tuple(round(int(v) * 2.55) for v in (r, g, b))
        elif chosen is not None:
            colour = int(chosen)
        elif back:
            x = 0
        elif down:
            x, top = 0, top + 6
        else:
            bits = ord(repeated or single) - 63
            for _ in range(int(times or 1)):
                for row in range(6):
                    if bits >> row & 1:
                        pixels[top + row, x] = palette[colour]
                x += 1
            assert x <= width
    assert "".join(part[0] for part in re.finditer(token, body)) == body
    assert len(palette) <= COLOURS
    return Image.fromarray(pixels[:height])


def difference(a: Image.Image, b: Image.Image) -> float:
    pixels = [np.asarray(picture.convert("RGB"), np.float32) for picture in (a, b)]
    return float(np.abs(pixels[0] - pixels[1]).mean())


def test_both_protocols_show_the_picture() -> None:
    for size, shown in [((256, 256), (96, 96)), ((400, 256), (150, 96)), ((40, 30), (40, 30))]:
        data = jpeg(size)
        expected = Image.open(BytesIO(data)).convert("RGB")
        expected.thumbnail((288, HEIGHT))
        kitty = from_kitty(in_terminal(data, "kitty"))
        assert kitty.size == shown
        assert difference(kitty, expected) == 0
        sixel = from_sixel(in_terminal(data, "sixel"))
        assert sixel.size == shown
        assert difference(sixel, expected) < 12


def test_a_grey_picture_and_a_panorama() -> None:
    grey = encode(photo(2).convert("L"), "JPEG")
    assert from_sixel(in_terminal(grey, "sixel")).size == (96, 96)
    wide = encode(photo(2).resize((2000, 256)), "JPEG")
    assert from_kitty(in_terminal(wide, "kitty")).size[0] == 288
