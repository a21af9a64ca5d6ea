from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from app.faces.face import LEVELS, Level
from app.faces.finder import FaceFinder
from app.problems import MissingPackage

Finder = Callable[[Level], FaceFinder]


def test_the_box_is_around_the_face(finder: Finder, astronaut: Image.Image) -> None:
    [face] = finder("boxes").find(astronaut)
    eyes, mouth = (0.43, 0.20), (0.43, 0.28)
    box = face.box
    for x, y in (eyes, mouth):
        assert box.x < x < box.x + box.width
        assert box.y < y < box.y + box.height
    assert 0.1 < box.width < 0.25
    assert 0.1 < box.height < 0.3
    assert face.confidence > 0.8
    left_eye, right_eye, nose, left_corner, right_corner = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_corner[1]
    assert left_corner[0] < right_corner[0]


def test_faces_are_from_left_to_right(
    finder: Finder, astronaut: Image.Image, cameraman: Image.Image
) -> None:
    both = Image.new("RGB", (1024, 512))
    for first, second in ((astronaut, cameraman), (cameraman, astronaut)):
        both.paste(first, (0, 0))
        both.paste(second, (512, 0))
        left, right = finder("boxes").find(both)
        assert left.box.x + left.box.width <= 0.5 <= right.box.x


def test_a_mirrored_image_has_mirrored_boxes(finder: Finder, astronaut: Image.Image) -> None:
    [face] = finder("boxes").find(astronaut)
    [mirrored] = finder("boxes").find(ImageOps.mirror(astronaut))
    assert mirrored.box.x == pytest.approx(1 - face.box.x - face.box.width, abs=0.02)
    assert mirrored.box.y == pytest.approx(face.box.y, abs=0.02)


def test_boxes_do_not_depend_on_the_size(finder: Finder, astronaut: Image.Image) -> None:
    [face] = finder("boxes").find(astronaut)
    for side in (256, 400, 1600):
        [again] = finder("boxes").find(astronaut.resize((side, side)))
        assert again.box.x == pytest.approx(face.box.x, abs=0.03)
        assert again.box.height == pytest.approx(face.box.height, abs=0.05)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick", "grass"])
def test_what_is_no_face_has_none(finder: Finder, name: str) -> None:
    image = Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB")
    assert finder("vectors").find(image) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (3000, 2), (33, 31), (640, 641)])
def test_any_size_can_be_looked_at(finder: Finder, size: tuple[int, int]) -> None:
    assert finder("vectors").find(Image.new("RGB", size, "white")) == []


def test_each_level_has_what_those_before_have(finder: Finder, astronaut: Image.Image) -> None:
    boxes, attributes, vectors = (finder(level).find(astronaut)[0] for level in LEVELS)
    assert boxes.box == attributes.box == vectors.box
    assert boxes.traits is None
    assert boxes.vector is None
    assert attributes.traits == vectors.traits
    assert attributes.vector is None
    assert vectors.vector is not None
    assert vectors.vector.shape == (128,)
    assert np.linalg.norm(vectors.vector) == pytest.approx(1, abs=1e-5)
    traits = vectors.traits
    assert traits is not None
    assert 0 <= traits.age_low <= traits.age_high <= 80
    assert 0 < traits.age < 80
    assert 0.5 <= traits.gender_confidence <= 1


def test_a_face_is_nearer_to_itself_than_to_a_stranger(
    finder: Finder, astronaut: Image.Image, cameraman: Image.Image
) -> None:
    def vector(image: Image.Image) -> np.ndarray:
        [face] = finder("vectors").find(image)
        assert face.vector is not None
        return face.vector

    own, stranger = vector(astronaut), vector(cameraman)
    for changed in (
        ImageOps.mirror(astronaut),
        astronaut.resize((300, 300)),
        ImageOps.grayscale(astronaut).convert("RGB"),
        astronaut.rotate(10),
    ):
        assert own @ vector(changed) > 0.95 > own @ stranger


def test_small_faces_have_no_vector(finder: Finder, astronaut: Image.Image) -> None:
    [face] = finder("vectors").find(astronaut.resize((180, 180)))
    assert face.traits is not None
    assert face.vector is None
    [face] = finder("vectors").find(astronaut.resize((110, 110)))
    assert face.traits is None
    assert face.vector is None


def test_models_that_are_not_there_are_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MissingPackage, match=r"FACES=boxes .*: lookalike faces fetch$"):
        FaceFinder(tmp_path, "boxes")
