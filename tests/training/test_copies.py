"""The test of copy detection: it is reproducible, and its measures are what they say."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.encoding.onnx_model import OnnxModel
from tests.onnx_models import write_clip
from tests.samples import encode, photo
from training.measuring.copies import (
    CopyTest,
    build_test,
    measure,
    model_similarities,
    read_photos,
)
from training.measuring.transformations import HARD, PLAIN, TRANSFORMATIONS

ALL = {**TRANSFORMATIONS, **HARD}
KINDS = len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_transformations_are_reproducible_with_a_seed(name: str) -> None:
    image, other = photo(1, (160, 120)), photo(2, (120, 160))
    transform = ALL[name]
    first, second = (transform(image, np.random.default_rng(3), other) for _ in range(2))
    assert first.mode == "RGB"
    assert min(first.size) >= 30
    assert encode(first) == encode(second)
    assert encode(first) != encode(image)


def test_there_are_twenty_transformations_and_four_hard_ones() -> None:
    assert (len(TRANSFORMATIONS), len(HARD)) == (20, 4)
    assert len(PLAIN) == 14
    assert set(PLAIN) < set(TRANSFORMATIONS)


def test_a_folder_and_a_tar_file_give_the_same_photos(tmp_path: Path) -> None:
    folder, archive = tmp_path / "photos", tmp_path / "photos.tar"
    folder.mkdir()
    with tarfile.open(archive, "w") as tar:
        for seed in range(8):
            data = encode(photo(seed, (40, 40)))
            (folder / f"{seed}.png").write_bytes(data)
            member = tarfile.TarInfo(f"x/{seed}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    chosen = [read_photos([place], only_held_out=False, count=5) for place in (folder, archive)]
    assert [encode(image) for image in chosen[0]] == [encode(image) for image in chosen[1]]


def copy_test(places: list[int]) -> CopyTest:
    blank = Image.new("RGB", (8, 8))
    return CopyTest(
        [blank] * 3, [blank] * len(places), np.array(places), np.zeros(len(places), int)
    )


def test_the_measures_by_hand() -> None:
    # Right, right, wrong photo, unknown photo; by descending similarity: 0.95 0.92 0.91 0.5.
    similarities = np.array(
        [[0.95, 0.1, 0.1], [0.1, 0.5, 0.1], [0.91, 0.1, 0.2], [0.1, 0.92, 0.1]], np.float32
    )
    measures = measure(copy_test([0, 1, 2, -1]), similarities)
    assert measures.recall == pytest.approx(2 / 3)
    assert measures.micro_ap == pytest.approx((1 / 1 + 2 / 4) / 3)
    assert measures.recall_at_threshold == pytest.approx(1 / 3)
    assert measures.precision_at_threshold == pytest.approx(1 / 3)
    assert measures.recall_at_99 == pytest.approx(1 / 3)
    assert measures.threshold_at_99 == pytest.approx(0.95)


def test_a_test_is_reproducible_and_measures_a_model(tmp_path: Path) -> None:
    photos = [photo(seed, (48, 48)) for seed in range(12)]
    first, second = build_test(photos, 6), build_test(photos, 6)
    assert len(first.queries) == KINDS * 200
    assert (first.places >= 0).sum() == KINDS * 100
    assert [encode(q) for q in first.queries[::97]] == [encode(q) for q in second.queries[::97]]
    model = OnnxModel(write_clip(tmp_path / "tiny"), name="tiny")
    similarities = model_similarities(model, first)
    assert similarities.shape == (KINDS * 200, 6)
    assert 0 < measure(first, similarities).recall <= 1
