"""The measure of a phrase with a liked image beside it."""

import numpy as np

from app.encoding.encoder import unit
from training.measuring.mixed import shares


def test_a_liked_image_helps_a_phrase_that_says_little() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(20, 32)))
    images = unit(np.repeat(centres, 8, axis=0) + 0.25 * rng.normal(size=(160, 32)))
    classes = [f"class {place // 8}" for place in range(160)]
    vague = unit(centres + 0.22 * rng.normal(size=centres.shape))
    found = shares(images, classes, {f"class {n}": vector for n, vector in enumerate(vague)})
    assert list(found) == ["name", "photo", "both"]
    assert found["both"] > max(found["name"], found["photo"])


def test_classes_of_few_photos_do_not_count() -> None:
    images = unit(np.random.default_rng(0).normal(size=(10, 8)))
    classes = ["a"] * 5 + ["b"] * 4 + ["c"]
    names = dict.fromkeys("abc", images[0])
    assert set(shares(images, classes, names)) == {"name", "photo", "both"}
