"""The evaluation protocol of `training/`: seeded, and its measures are what they say."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.encoding.onnx_model import OnnxModel
from tests.onnx_models import write_clip
from tests.samples import encode, photo
from training.data.photos import (
    files_to_test_on,
    is_held_out,
    load_photos,
    read_captions,
    read_features,
)
from training.measuring.copies import Protocol, build, measure, model_similarities, read_photos
from training.measuring.transformations import TRANSFORMATIONS

KINDS = len(TRANSFORMATIONS)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_transformation_is_decided_by_its_generator(name: str) -> None:
    image, other = photo(1, (160, 120)), photo(2, (120, 160))
    transform = TRANSFORMATIONS[name]
    first, second = (transform(image, np.random.default_rng(3), other) for _ in range(2))
    assert first.mode == "RGB"
    assert min(first.size) >= 30
    assert encode(first) == encode(second)
    assert encode(first) != encode(image)


def test_there_are_twenty_transformations() -> None:
    assert KINDS == 20


def test_photos_are_the_same_from_a_folder_and_a_tar(tmp_path: Path) -> None:
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


def test_one_in_twenty_photos_is_held_out_by_its_name() -> None:
    held_out = [is_held_out(f"{number}.jpg") for number in range(4000)]
    assert 0.03 < np.mean(held_out) < 0.07
    assert is_held_out("5.jpg") == is_held_out("5.jpg")


def test_what_captions_keep_for_tests_is_neither_trained_on_nor_missing_here(
    tmp_path: Path,
) -> None:
    trained_on = [name for name in (f"{n}.png" for n in range(40)) if not is_held_out(name)][:4]
    for seed, name in enumerate(trained_on):
        (tmp_path / name).write_bytes(encode(photo(seed, (40, 40))))
    captions = tmp_path / "captions.tsv"
    splits = zip(trained_on, ["train", "dev", "test"], strict=False)
    rows = [f"{name}\t{split}\tA dog .\n" for name, split in splits]
    captions.write_text("file\tsplit\tcaption\n" + "".join(rows))

    kept_back = files_to_test_on(read_captions(captions))
    names, _ = load_photos([tmp_path], without=kept_back)
    assert names == sorted([trained_on[0], trained_on[1], trained_on[3]])
    [held_out] = read_photos([tmp_path], only_held_out=True, captions=captions, count=1)
    assert encode(held_out) == encode(Image.open(tmp_path / trained_on[2]).convert("RGB"))


def protocol(places: list[int]) -> Protocol:
    blank = Image.new("RGB", (8, 8))
    return Protocol(
        [blank] * 3, [blank] * len(places), np.array(places), np.zeros(len(places), int)
    )


def test_given_features_find_their_photos_by_name(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, pets_names=["pets/cat.jpg"], pets_features=np.array([[1, 2]], np.float16),
             farm_names=["cow.jpg"], farm_features=np.array([[3, 4]], np.float16))  # fmt: skip
    features, known = read_features(path, ["cow.jpg", "unicorn.jpg", "cat.jpg"])
    assert features.tolist() == [[3, 4], [0, 0], [1, 2]]
    assert known.tolist() == [True, False, True]


def test_the_measures_by_hand() -> None:
    # Right, right, wrong photo, unknown photo; by descending similarity: 0.95 0.92 0.91 0.5.
    similarities = np.array(
        [[0.95, 0.1, 0.1], [0.1, 0.5, 0.1], [0.91, 0.1, 0.2], [0.1, 0.92, 0.1]], np.float32
    )
    measures = measure(protocol([0, 1, 2, -1]), similarities)
    assert measures.recall == pytest.approx(2 / 3)
    assert measures.micro_ap == pytest.approx((1 / 1 + 2 / 4) / 3)
    assert measures.recall_at_threshold == pytest.approx(1 / 3)
    assert measures.precision_at_threshold == pytest.approx(1 / 3)
    assert measures.recall_at_99 == pytest.approx(1 / 3)
    assert measures.threshold_at_99 == pytest.approx(0.95)


def test_a_protocol_is_the_same_each_time_and_measures_a_model(tmp_path: Path) -> None:
    photos = [photo(seed, (48, 48)) for seed in range(12)]
    first, second = build(photos, 6), build(photos, 6)
    assert len(first.queries) == KINDS * 200
    assert (first.places >= 0).sum() == KINDS * 100
    assert [encode(q) for q in first.queries[::97]] == [encode(q) for q in second.queries[::97]]
    model = OnnxModel(write_clip(tmp_path / "tiny"), name="tiny")
    similarities = model_similarities(model, first)
    assert similarities.shape == (KINDS * 200, 6)
    assert 0 < measure(first, similarities).recall <= 1
