"""The encoder `lite`: made once from the weights of its package, and used like any other."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.encoding import lite
from app.encoding.encoder import Encoder, unit
from app.encoding.lite import lite_directory
from app.encoding.loading import load_encoder
from app.encoding.onnx_model import INT8, VISION, OnnxModel
from app.encoding.quantization import probe
from app.encoding.weights import find_weights
from app.problems import UnusableEncoder
from app.settings import Settings
from demo.__main__ import sample_photos
from tests.process import lookalike

# Phrases, each with the demo photo that comes first by looks alone.
SHOWN = {
    "a cup of coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "cat": "chelsea.png",
    "motorcycle": "motorcycle_left.png",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DATA_DIR where lite has been made."""
    folder = tmp_path_factory.mktemp("data")
    lite_directory(folder, lambda _: None)
    return folder


def loaded(data_dir: Path, precision: str = "auto") -> Encoder:
    settings = Settings.model_validate(
        {"encoder": "lite", "data_dir": data_dir, "precision": precision}
    )
    return load_encoder(settings, indexed=(), announce=lambda _: None)


def test_it_is_made_once_however_many_start_at_the_same_time(tmp_path: Path) -> None:
    announced: list[str] = []
    made: list[Path] = []
    barrier = threading.Barrier(3)

    def start() -> None:
        barrier.wait()
        made.append(lite_directory(tmp_path, announced.append))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert announced == ["Preparing the encoder lite (once)"]
    assert len(set(made)) == 1
    assert made[0].parent == tmp_path / "models"
    assert sorted(path.name for path in made[0].parent.iterdir()) == [made[0].name, "lite.lock"]


def test_it_is_not_made_again(data_dir: Path) -> None:
    announced: list[str] = []
    weights = find_weights("lite", indexed=(), data_dir=data_dir, announce=announced.append)
    assert (weights.name, weights.source, announced) == ("lite", "lite", [])


def test_its_vectors_are_the_same_on_every_machine(data_dir: Path, tmp_path: Path) -> None:
    again = lite_directory(tmp_path, lambda _: None)
    for name in (VISION, INT8):
        first = lite_directory(data_dir, print) / name
        assert first.read_bytes() == (again / name).read_bytes()


def test_an_interrupted_preparation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite, "WEIGHTS", "__init__.py")
    with pytest.raises(UnusableEncoder, match="is not a file of tensors"):
        lite_directory(tmp_path, lambda _: None)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lite.lock"]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite, "PACKAGE", "no_such_package")
    with pytest.raises(UnusableEncoder, match="pip install no_such_package"):
        lite_directory(tmp_path, lambda _: None)


def test_the_int8_form_agrees_with_fp32_and_is_the_one_used(data_dir: Path) -> None:
    small, full = loaded(data_dir), loaded(data_dir, "fp32")
    assert (small.model.precision, full.model.precision) == ("int8", "fp32")
    assert small.model.fingerprint == full.model.fingerprint
    images = [probe(seed) for seed in range(8)]
    vectors = [
        unit(encoder.model.embed_images([encoder.model.prepare(image) for image in images]))
        for encoder in (small, full)
    ]
    cosines = (vectors[0] * vectors[1]).sum(1)
    assert cosines.mean() > 0.97
    for encoder in (small, full):
        encoder.close()


def test_its_vectors_do_not_depend_on_the_batch(data_dir: Path) -> None:
    folder = lite_directory(data_dir, print)
    model = OnnxModel(folder, name="lite", vision=folder / INT8)
    prepared = [model.prepare(probe(seed)) for seed in range(3)]
    together = model.embed_images(prepared)
    alone = np.concatenate([model.embed_images([one]) for one in prepared])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_it_reads_texts(data_dir: Path) -> None:
    encoder = loaded(data_dir)
    assert (encoder.has_text, encoder.dimensions) == (True, 384)
    assert encoder.submit_text("a dog in the snow").result().shape == (384,)
    assert encoder.model.read("a dog and a qwertzuiop").unknown_words == ("qwertzuiop",)
    encoder.close()


def test_phrases_find_the_photos_that_show_them_first(data_dir: Path) -> None:
    folder = lite_directory(data_dir, print)
    model, photos = OnnxModel(folder, name="lite", vision=folder / INT8), sample_photos()
    opened = [Image.open(path).convert("RGB") for path in photos.values()]
    images = unit(np.concatenate([model.embed_images([model.prepare(one)]) for one in opened]))
    for phrase, name in SHOWN.items():
        similarities = images @ unit(model.embed_texts([phrase]))[0]
        assert list(photos)[int(similarities.argmax())] == name, phrase


def test_a_text_says_the_same_beside_longer_ones(data_dir: Path) -> None:
    model = OnnxModel(lite_directory(data_dir, print), name="lite")
    texts = [
        "dog",
        "two dogs run over the wet sand of a beach while a child looks on",
    ]
    together = model.embed_texts(texts)
    alone = np.concatenate([model.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_it_is_fetched_by_its_name(data_dir: Path) -> None:
    done = lookalike("model", "fetch", "lite", DATA_DIR=str(data_dir))
    assert done.returncode == 0, done.stderr
    assert "name: lite\n" in done.stdout
    assert "precision: int8" in done.stdout
    assert "text: True" in done.stdout
