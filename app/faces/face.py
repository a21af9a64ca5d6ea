"""A face, and how much of it is looked at."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Increment when the same image gives other faces: then they are made again.
VERSION = 1

Level: TypeAlias = Literal["boxes", "attributes", "vectors"]
"""What is kept of each face; each level has what those before it have."""

LEVELS: tuple[Level, ...] = ("boxes", "attributes", "vectors")

VECTOR_DIMENSIONS = 128
# Vectors of smaller faces, in pixels, are near those of strangers.
LEAST_FOR_VECTOR = 40
# The least cosine of the vectors of two faces that are taken for the same, when someone searches by
# one of them; and when images are grouped by themselves, where one wrong link joins two people
# (python -m bench.faces --pairs).
SAME_FACE = 0.94
SAME_PERSON = 0.96


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of an upright image, in fractions (0 to 1) of its width and height."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """Return which share of the area that either covers both do."""
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        both = max(0.0, right - max(self.x, other.x)) * max(0.0, bottom - max(self.y, other.y))
        either = self.width * self.height + other.width * other.height - both
        return both / either if either else 0.0


@dataclass(frozen=True, slots=True)
class Traits:
    """A guess of a network, with known bias: never what is true of a person.

    `age` is the mean of its distribution in years; between `age_low` and `age_high` lie four fifths
    of it. `gender_confidence` is 0.5 to 1.
    """

    age: float
    age_low: int
    age_high: int
    gender: Literal["female", "male"]
    gender_confidence: float


@dataclass(frozen=True, slots=True)
class Face:
    """A face in an image.

    `confidence` is the detector's, 0 to 1. `landmarks` are the eyes, the nose and the corners of
    the mouth as (x, y) in fractions of the image, the left of the image first. `vector` has 128
    float32 numbers, unit length; faces too small for one have none.
    """

    box: Box
    confidence: float
    landmarks: tuple[tuple[float, float], ...]
    traits: Traits | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The faces of an image, from left to right, and the level at which they were looked for."""

    faces: tuple[Face, ...]
    level: Level


class Finder(Protocol):
    """What looks for faces: lazy.py, which is imported only where someone asked for it."""

    @property
    def level(self) -> Level:
        """What it tells of each face."""
        ...

    def load(self) -> object:
        """Load the models, once; raises `MissingPackage` if they cannot be."""
        ...

    def look(self, image: Image.Image) -> Found | None:
        """Return the faces in an upright RGB image; None if the models cannot be loaded."""
        ...
