from collections.abc import Callable
from functools import cache

import pytest
from PIL import Image
from skimage import data

from app.faces.face import Level
from app.faces.finder import FaceFinder
from tests.faces_setup import DATA_DIR


@cache
def _finder(level: Level) -> FaceFinder:
    return FaceFinder(DATA_DIR, level)


@pytest.fixture
def finder() -> Callable[[Level], FaceFinder]:
    return _finder


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def cameraman() -> Image.Image:
    return Image.fromarray(data.camera()).convert("RGB")
