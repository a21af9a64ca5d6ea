"""A perceptual hash that shows an image in all eight orientations, and keys to find near ones by.

Each of its 64 bits is the sign of a low frequency of the image's cosine transform. Mirroring the
image turns the signs of the odd frequencies of one direction, transposing it exchanges the two
directions, and the other orientations are made of these: so the hashes of all eight are made from
one of them, without the pixels ("dihedral" hashes, as in PDQ: Facebook, "The TMK+PDQF
Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019).

The bits are in three parts, each of which stays one in all orientations. What each of a part's
eight values has in common, the least of them, is a key. Two images whose hashes differ in at most
eight bits in some orientation differ in at most two in one part, so that one has a key that is
near one of the other's.
"""

from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Numbers = NDArray[np.int64]

BITS = 64
# Frequencies whose sum is no greater than this.
HIGHEST = 10
# Bits of the parts, the low frequencies in the first: they change the least.
PARTS = (22, 21, 21)
# Bits of a part that may differ.
NEAR = 2


def phash(image: Image.Image) -> int:
    """Return the 64-bit hash of an RGB image, as a signed integer (Postgres' bigint).

    It is about the same for any size of the image, from 32 px square on.
    """
    grey = np.asarray(image.convert("L"), np.float64)
    rows, columns = (_cosines(length) for length in grey.shape)
    frequencies = rows @ grey @ columns.T
    value = sum(1 << bit for bit, place in enumerate(_places()) if frequencies[place] > 0)
    return value - (1 << BITS) if value >= 1 << (BITS - 1) else value


def orientations(value: int) -> list[int]:
    """Return the hashes of the image in its eight orientations, beginning with itself."""
    return [_signed(parts) for parts in zip(*_all_parts(value), strict=True)]


def keys(value: int) -> list[int]:
    """Return an image's keys, one of each part, which are the same for all of its orientations."""
    return [min(values) for values in _all_parts(value)]


def near_keys(value: int) -> list[list[int]]:
    """Return, of each part, the keys of images that differ from this one in at most two bits."""
    return [
        # Of an orientation of a changed image: the change, in that orientation.
        np.unique((np.array(values)[:, None] ^ layout.changes).min(axis=0)).tolist()
        for values, layout in zip(_all_parts(value), _layouts(), strict=True)
    ]


class _Layout(NamedTuple):
    """Where the bits of a part are, and what becomes of them.

    `odd_columns` and `odd_rows` are the bits that mirroring turns; the bit at place n moves to
    `transposed[n]`. `changes` (8, n) are changes of up to two bits, in each orientation.
    """

    start: int
    bits: int
    odd_columns: int
    odd_rows: int
    transposed: list[int]
    changes: Numbers

    def orientations(self, value: int) -> list[int]:
        """Return a part's values, in the order in which `changes` has them."""
        return [
            turned ^ signs
            for turned in (value, self.transpose(value))
            for signs in (0, self.odd_columns, self.odd_rows, self.odd_columns ^ self.odd_rows)
        ]

    def transpose(self, value: int) -> int:
        """Return a part's value for the image with rows and columns exchanged."""
        return sum(1 << to for bit, to in enumerate(self.transposed) if value >> bit & 1)


def _all_parts(value: int) -> list[list[int]]:
    """Return the values of each part in the eight orientations."""
    return [
        layout.orientations(value >> layout.start & (1 << layout.bits) - 1) for layout in _layouts()
    ]


def _signed(parts: tuple[int, ...]) -> int:
    value = sum(part << layout.start for part, layout in zip(parts, _layouts(), strict=True))
    return value - (1 << BITS) if value >= 1 << (BITS - 1) else value


@cache
def _layouts() -> list[_Layout]:
    found: list[_Layout] = []
    start = 0
    for bits in PARTS:
        places = _places()[start : start + bits]
        found.append(_layout(start, places))
        start += bits
    return found


def _layout(start: int, places: list[tuple[int, int]]) -> _Layout:
    bare = _Layout(
        start,
        len(places),
        sum(1 << bit for bit, (_, column) in enumerate(places) if column % 2),
        sum(1 << bit for bit, (row, _) in enumerate(places) if row % 2),
        [places.index((column, row)) for row, column in places],
        np.zeros((8, 0), np.int64),
    )
    changes = [
        sum(1 << bit for bit in turned)
        for number in range(NEAR + 1)
        for turned in combinations(range(len(places)), number)
    ]
    # Turning signs leaves a change as it is.
    transposed = [bare.transpose(change) for change in changes]
    return bare._replace(changes=np.array([changes] * 4 + [transposed] * 4))


@cache
def _places() -> list[tuple[int, int]]:
    """Return the frequencies (of rows, of columns) of the bits, those of each part together.

    With each frequency, its part has the one with directions exchanged.
    """
    pairs = [(row, total - row) for total in range(HIGHEST + 1) for row in range((total + 1) // 2)]
    # Without the mean, and without the last, which would be one too many.
    squares = [(row, row) for row in range(1, HIGHEST // 2)]
    found: list[tuple[int, int]] = []
    for bits in PARTS:
        # The first has two of the squares, each of the others one: as many as are left over.
        single = squares[: 2 - bits % 2]
        squares = squares[len(single) :]
        doubled, pairs = pairs[: (bits - len(single)) // 2], pairs[(bits - len(single)) // 2 :]
        found += single + [place for a, b in doubled for place in ((a, b), (b, a))]
    return found


@cache
def _cosines(length: int) -> NDArray[np.float64]:
    """Return the first rows of the cosine transform (type II) of this length."""
    angles = np.outer(np.arange(HIGHEST + 1), (np.arange(length) + 0.5) * np.pi / length)
    return np.cos(angles)
