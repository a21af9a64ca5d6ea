"""Keypoints: places of an image that can be found again in altered copies of it, stored compactly.

RootSIFT on the grey image (Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004;
Arandjelović and Zisserman, "Three things everyone should know to improve object retrieval", CVPR
2012). Its 4 x 4 cells of 8 orientations are transformed by cosines over the cells and by a Fourier
transform over the orientations, in which a mirrored image differs by signs only, and of which 48
coefficients of 4 bits say as much as 128 bytes do.
"""

import functools
import struct
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.pictures.opencv import opencv

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Increment when the same pixels give other keypoints; those of other versions are made again.
VERSION = 2

# Keypoints are looked for at this size; smaller images are enlarged to it.
SHORT_SIDE = 192
LONGEST_SIDE = 480
MOST_KEYPOINTS = 320
# Lowe's 0.04 finds too little in faint or blurred images: recall of blurred copies 0.67, with this
# 0.76.
LEAST_CONTRAST = 0.01
# Lowe leaves out places along edges, whose principal curvatures have a ratio above 10. Drawings and
# logos have few others, so if fewer than these are found, the ratio is larger.
FEW, EDGES, MORE_EDGES = 80, 10, 30

DIMENSIONS = 48
# A coefficient is stored as one of 16 levels, this far apart.
STEP = 0.05
# Places are stored in these parts of a pixel, sizes in these parts of a doubling.
_PLACE_PARTS, _SIZE_PARTS = 64, 24
_HEADER = struct.Struct("<BHHH")
# x, y, log2 of the size, angle; the descriptor follows.
_GEOMETRY_BYTES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of an image, strongest first.

    `width` and `height` are the size in pixels at which they were found. `places` are (n, 2), x and
    y in these pixels, `sizes` (n,) diameters in pixels, `angles` (n,) in radians, clockwise;
    `descriptors` (n, 48) unit rows. Two keypoints may be at one place, with different angles.
    """

    width: int
    height: int
    places: Floats
    sizes: Floats
    angles: Floats
    descriptors: Floats

    @classmethod
    def none(cls) -> "Keypoints":
        """Return no keypoints, of an image that was not looked at."""
        nothing = np.empty(0, np.float32)
        places, descriptors = np.empty((0, 2), np.float32), np.empty((0, DIMENSIONS), np.float32)
        return cls(1, 1, places, nothing, nothing, descriptors)

    def __len__(self) -> int:
        return len(self.places)

    def mirrored(self) -> "Keypoints":
        """Return what would be found in the image mirrored left to right."""
        places = self.places.copy()
        places[:, 0] = self.width - places[:, 0]
        descriptors = self.descriptors * _basis().mirror
        angles = np.float32(np.pi) - self.angles
        return Keypoints(self.width, self.height, places, self.sizes, angles, descriptors)

    def to_bytes(self) -> bytes:
        """Return a compact form: 30 bytes a keypoint."""
        geometry = np.empty((len(self), _GEOMETRY_BYTES), np.uint8)
        places = np.clip(np.rint(self.places * _PLACE_PARTS), 0, 0xFFFF).astype("<u2")
        geometry[:, :4] = places.view(np.uint8).reshape(-1, 4)
        geometry[:, 4] = np.clip(np.rint(np.log2(self.sizes) * _SIZE_PARTS), 0, 255)
        geometry[:, 5] = np.rint(self.angles / (2 * np.pi) * 256).astype(np.int64) % 256
        header = _HEADER.pack(VERSION, self.width, self.height, len(self))
        return header + np.hstack([geometry, self._packed()]).tobytes()

    def packed_descriptors(self) -> bytes:
        """Return the descriptors as they are stored: 24 bytes each, two levels a byte."""
        return self._packed().tobytes()

    def _packed(self) -> Pixels:
        levels = _levels(self.descriptors)
        return (levels[:, ::2] << 4 | levels[:, 1::2]).astype(np.uint8, copy=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Keypoints | None":
        """Read what `to_bytes` made; None if it is of another version, or damaged."""
        if len(data) < _HEADER.size or data[0] != VERSION:
            return None
        _, width, height, count = _HEADER.unpack_from(data)
        length = _GEOMETRY_BYTES + DIMENSIONS // 2
        if len(data) != _HEADER.size + count * length:
            return None
        rows = np.frombuffer(data, np.uint8, offset=_HEADER.size).reshape(count, length)
        places = np.ascontiguousarray(rows[:, :4]).view("<u2").astype(np.float32)
        packed = rows[:, _GEOMETRY_BYTES:]
        levels = np.stack([packed >> 4, packed & 15], axis=2).reshape(count, DIMENSIONS)
        return cls(
            width,
            height,
            places / np.float32(_PLACE_PARTS),
            np.exp2(rows[:, 4].astype(np.float32) / _SIZE_PARTS),
            rows[:, 5].astype(np.float32) * np.float32(2 * np.pi / 256),
            _unit(levels.astype(np.float32) - 7.5),
        )


def find_keypoints(image: Image.Image) -> Keypoints:
    """Return the keypoints of an RGB image, at most `MOST_KEYPOINTS`.

    Its size does not matter, as long as its short side has `SHORT_SIDE` pixels or more.
    """
    return keypoints_of_grey(working_grey(image))


def working_grey(image: Image.Image) -> Pixels:
    """Return the grey pixels, (h, w), in which the keypoints of an RGB image are looked for."""
    size = working_size(image.size)
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC, reducing_gap=3))


def keypoints_of_grey(grey: Pixels) -> Keypoints:
    """Return the keypoints of what `working_grey` made; it takes about 15 ms."""
    height, width = grey.shape
    found, descriptors = _detector(EDGES).detectAndCompute(grey, None)
    if len(found) < FEW:
        found, descriptors = _detector(MORE_EDGES).detectAndCompute(grey, None)
    found, count = found[:MOST_KEYPOINTS], min(len(found), MOST_KEYPOINTS)
    # OpenCV counts from the centre of the first pixel, and is a quarter of a pixel off because it
    # doubles the image first; we count from the corner.
    table = np.array([(*p.pt, p.size, p.angle) for p in found], np.float32).reshape(count, 4)
    return Keypoints(
        width,
        height,
        table[:, :2] + np.float32(0.25),
        table[:, 2],
        np.deg2rad(table[:, 3]),
        _transformed(descriptors[:count]) if count else np.empty((0, DIMENSIONS), np.float32),
    )


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which keypoints are looked for in an image of this size."""
    scale = min(SHORT_SIDE / min(size), LONGEST_SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


_local = threading.local()


def _detector(edges: float) -> Any:
    """Return this thread's detector: OpenCV's algorithms must not be shared between threads."""
    detectors = _local.__dict__.setdefault("detectors", {})
    if edges not in detectors:
        detectors[edges] = opencv().SIFT.create(
            nfeatures=MOST_KEYPOINTS, contrastThreshold=LEAST_CONTRAST, edgeThreshold=edges
        )
    return detectors[edges]


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """The transform of descriptors: `rows` (48, 128), and `mirror` (48,), the signs of a mirror."""

    rows: Floats
    mirror: Floats


@functools.cache
def _basis() -> _Basis:
    """Return the 48 coefficients of lowest frequency, without the constant one."""
    cells, orientations = _cosines(4), _fourier(8)
    rows = np.einsum("ai,bj,ck->abcijk", cells, cells, orientations).reshape(128, 128)
    # Over the orientations: the constant, then cosine and sine of each frequency.
    frequency = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    is_sine = np.array([0, 0, 1, 0, 1, 0, 1, 0])
    down, across, turn = (axis.ravel() for axis in np.indices((4, 4, 8)))
    # The order of their variances, nearly: a frequency over 4 cells counts like 3/4 of one over 8.
    weight = down**2 + across**2 + (0.8 * frequency[turn] - 0.8) ** 2
    weight[0] = 99
    chosen = np.argsort(weight, kind="stable")[:DIMENSIONS]
    # Mirrored, the rows of cells (across the keypoint's direction) and the orientations turn round.
    mirror = (-1.0) ** (down + is_sine[turn])
    return _Basis(rows[chosen].astype(np.float32), mirror[chosen].astype(np.float32))


def _cosines(count: int) -> NDArray[np.float64]:
    """Return the orthonormal discrete cosine transform, (count, count)."""
    k, i = np.indices((count, count))
    rows = np.cos(np.pi * (i + 0.5) * k / count) * np.sqrt(2 / count)
    rows[0] /= np.sqrt(2)
    return rows


def _fourier(count: int) -> NDArray[np.float64]:
    """Return the real, orthonormal discrete Fourier transform, (count, count), count even."""
    angles = 2 * np.pi * np.arange(count) / count
    waves = [f(k * angles) for k in range(1, count // 2) for f in (np.cos, np.sin)]
    rows = np.array([np.ones(count), *waves, np.cos(count // 2 * angles)]) * np.sqrt(2 / count)
    rows[[0, -1]] /= np.sqrt(2)
    return rows


def _transformed(sift: Floats) -> Floats:
    rooted = np.sqrt(sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-6))
    return _unit(rooted @ _basis().rows.T)


def _levels(descriptors: Floats) -> Pixels:
    """Return the coefficients as whole numbers, 0 to 15."""
    return np.clip(np.floor(descriptors / STEP) + 8, 0, 15).astype(np.uint8)


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
