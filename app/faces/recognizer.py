"""Vectors of faces, by dlib's ResNet (King, 2017; CC0-1.0): near each other for one person.

dlib calls two faces the same below a distance of 0.6. Its vectors have a length of about 1.4; ours
have unit length, and are compared by cosine like every vector here.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.faces.portraits import Shape, load_dlib
from app.problems import MissingPackage

MODEL = Path("face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat")
SIDE, PADDING = 150, 0.25


class Recognizer:
    """Makes vectors of faces, in one thread at a time.

    `folder` has the network and `dlib_folder` has dlib; raises `MissingPackage`.
    """

    def __init__(self, folder: Path, dlib_folder: Path) -> None:
        dlib = load_dlib(dlib_folder)
        try:
            self._network = dlib.face_recognition_model_v1(str(folder / MODEL))
        except RuntimeError as exc:
            raise MissingPackage(f"{folder / MODEL} cannot be loaded: {exc}") from exc

    def vector(self, face: Shape) -> NDArray[np.float32]:
        """Return the vector of a face: 128 float32 numbers, unit length."""
        found = np.array(self._network.compute_face_descriptor(face.portrait(SIDE, PADDING)))
        return (found / np.linalg.norm(found)).astype(np.float32)
