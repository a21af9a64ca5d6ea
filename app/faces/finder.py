"""From an image to its faces, at the level that is set."""

import threading
from dataclasses import replace
from pathlib import Path

from PIL import Image

from app.faces import packages
from app.faces.detector import Detector
from app.faces.face import LEAST_FOR_VECTOR, Face, Found, Level
from app.faces.portraits import PortraitMaker
from app.faces.recognizer import Recognizer
from app.faces.traits import TraitsGuesser

# The networks of age and gender see 32 and 64 px.
LEAST_FOR_TRAITS = 24


class FaceFinder:
    """Finds the faces of images; may be used by many threads.

    Raises `MissingPackage` if a package of the level has not been fetched.
    """

    def __init__(self, data_dir: Path, level: Level) -> None:
        packages.require(data_dir, level)
        where = {part: packages.folder(data_dir, part) for part in packages.levels_up_to(level)}
        self.level: Level = level
        self._detector = Detector(where["boxes"])
        self._portraits = self._traits = self._recognizer = None
        if "attributes" in where:
            self._portraits = PortraitMaker(where["attributes"])
            self._traits = TraitsGuesser(where["attributes"])
        if "vectors" in where:
            self._recognizer = Recognizer(where["vectors"], where["attributes"])
        # dlib's objects are for one thread at a time.
        self._lock = threading.Lock()

    def look(self, image: Image.Image) -> Found:
        """Return the faces in an upright RGB image, as they are to be stored."""
        return Found(tuple(self.find(image)), self.level)

    def find(self, image: Image.Image) -> list[Face]:
        """Return the faces in an upright RGB image, from left to right."""
        return [self._described(image, face) for face in self._detector.find(image)]

    def _described(self, image: Image.Image, face: Face) -> Face:
        side = min(face.box.width * image.width, face.box.height * image.height)
        if self._portraits is None or self._traits is None or side < LEAST_FOR_TRAITS:
            return face
        with self._lock:
            shape = self._portraits.shape(image, face.box)
            described = replace(face, traits=self._traits.guess(shape))
            if self._recognizer is not None and side >= LEAST_FOR_VECTOR:
                described = replace(described, vector=self._recognizer.vector(shape))
        return described
