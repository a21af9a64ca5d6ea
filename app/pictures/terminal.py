"""Pictures in a terminal: the escape sequences of kitty's graphics protocol and of sixels.

https://sw.kovidgoyal.net/kitty/graphics-protocol/ and DEC's VT330/VT340 programmer reference, part
2, chapter 14.
"""

import base64
from collections.abc import Iterator
from io import BytesIO
from itertools import groupby
from typing import Literal

import numpy as np
from PIL import Image

Protocol = Literal["kitty", "sixel"]

# Pixels: about six lines of text.
HEIGHT, WIDEST = 96, 288
# Characters of one escape sequence.
PIECE = 4096
COLOURS = 64
_START, _END = "\x1b_G", "\x1b\\"


def in_terminal(jpeg: bytes, protocol: Protocol) -> str:
    """Return what shows a thumbnail where the cursor is, with a line break after it."""
    with Image.open(BytesIO(jpeg)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDEST, HEIGHT))
    return (_kitty(picture) if protocol == "kitty" else _sixel(picture)) + "\n"


def _kitty(picture: Image.Image) -> str:
    out = BytesIO()
    picture.save(out, "PNG")
    text = base64.standard_b64encode(out.getvalue()).decode()
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    shown = ""
    for number, piece in enumerate(pieces):
        # Sent at once and shown (a=T), as PNG (f=100), without an answer (q=2); m=1: more follows.
        keys = "a=T,f=100,q=2," if number == 0 else ""
        shown += f"{_START}{keys}m={int(number < len(pieces) - 1)};{piece}{_END}"
    return shown


def _sixel(picture: Image.Image) -> str:
    reduced = picture.quantize(COLOURS)
    palette = (reduced.getpalette() or [])[: 3 * COLOURS]
    # Colours are in percent.
    parts = [
        f"#{index};2;{round(r / 2.55)};{round(g / 2.55)};{round(b / 2.55)}"
        for index, (r, g, b) in enumerate(zip(*[iter(palette)] * 3, strict=True))
    ]
    indices = np.asarray(reduced)
    bands = [_band(indices[top : top + 6]) for top in range(0, len(indices), 6)]
    size = f'"1;1;{picture.width};{picture.height}'
    return f"\x1bPq{size}{''.join(parts)}{'-'.join(bands)}{_END}"


def _band(rows: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    """Return six rows of palette indices as sixels: one line per colour, over each other."""
    bits = (1 << np.arange(len(rows)))[:, np.newaxis]
    lines = [
        f"#{colour}{''.join(_runs(((rows == colour) * bits).sum(axis=0).tolist()))}"
        for colour in np.unique(rows).tolist()
    ]
    return "$".join(lines)


def _runs(columns: list[int]) -> Iterator[str]:
    for value, run in groupby(columns):
        length, sign = len(list(run)), chr(63 + value)
        yield f"!{length}{sign}" if length > 3 else sign * length
