"""The measure of what looks alike."""

from pathlib import Path

import numpy as np
import pytest

from tests.samples import png
from training.measuring.similar import class_among_nearest, labelled_photos


def unit(*angles: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)


def test_the_share_counts_as_many_neighbours_as_the_class_has_others() -> None:
    # Two of "a" are close to each other, the third is next to "b".
    vectors = unit(0, 0.1, 2.0, 2.1, 4.0)
    shares = class_among_nearest(vectors, ["a", "a", "a", "b", "alone"])
    assert shares.tolist() == pytest.approx([1, 1, 0.5])


def test_at_most_ten_neighbours_count() -> None:
    vectors = unit(*np.linspace(0, 1, 30))
    assert class_among_nearest(vectors, ["a"] * 12 + ["b"] * 18).mean() > 0.8
    assert class_among_nearest(vectors, ["a"] * 30).tolist() == [1] * 30


def test_classes_are_folders_or_the_rarest_labels(tmp_path: Path) -> None:
    for name in ("cats/1.png", "cats/2.png", "cats/3.png", "dogs/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    found = labelled_photos(tmp_path, {}, 2)
    assert sorted(label for label, _ in found) == ["cats", "cats", "dogs"]
    labels = {"animal": {"1.png", "2.png", "4.png"}, "cat": {"1.png", "2.png"}}
    found = labelled_photos(tmp_path, labels, 10)
    assert sorted(label for label, _ in found) == ["animal", "cat", "cat"]
