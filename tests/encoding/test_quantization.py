import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.encoding.quantization import load, probe
from tests.onnx_models import write_clip
from tests.samples import cosine

RECORD = Path("onnx/vision_model_int8.json")


@pytest.fixture
def model(tmp_path: Path) -> Generator[Path]:
    folder = write_clip(tmp_path / "model")
    yield folder
    folder.joinpath("onnx").chmod(0o755)


def test_auto_uses_int8_if_it_agrees_and_records_the_agreement(model: Path, tmp_path: Path) -> None:
    announced: list[str] = []
    loaded = load(
        model, name="tiny", precision="auto", data_dir=tmp_path, announce=announced.append
    )
    assert loaded.precision == "int8"
    record = json.loads((model / RECORD).read_text())
    assert 0.99 <= record["mean_cosine"] <= 1
    assert record["min_cosine"] <= record["mean_cosine"]
    assert any("agrees" in line for line in announced)


def test_the_recorded_agreement_is_that_of_the_models(model: Path, tmp_path: Path) -> None:
    def loaded(precision: str) -> np.ndarray:
        model_ = load(
            model,
            name="tiny",
            precision=precision,  # pyright: ignore[reportArgumentType]
            data_dir=tmp_path,
            announce=lambda _: None,
        )
        return np.concatenate([model_.embed_images([model_.prepare(probe(s))]) for s in range(16)])

    pairs = zip(loaded("fp32"), loaded("int8"), strict=True)
    mean = float(np.mean([cosine(a, b) for a, b in pairs]))
    assert mean == pytest.approx(json.loads((model / RECORD).read_text())["mean_cosine"], abs=1e-4)
    assert mean < 1  # so the int8 form was used


def test_int8_sums_do_not_overflow_16_bits(model: Path, tmp_path: Path) -> None:
    load(model, name="tiny", precision="int8", data_dir=tmp_path, announce=lambda _: None)
    graph = onnx.load(model / "onnx" / "vision_model_int8.onnx").graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    largest = [int(np.abs(each.astype(int)).max()) for each in weights if each.dtype == np.int8]
    assert largest
    # CPUs without VNNI add two products of a byte and a weight.
    assert 2 * 255 * max(largest) < 2**15


def test_a_second_start_reuses_the_int8_form(model: Path, tmp_path: Path) -> None:
    load(model, name="tiny", precision="auto", data_dir=tmp_path, announce=lambda _: None)
    announced: list[str] = []
    load(model, name="tiny", precision="auto", data_dir=tmp_path, announce=announced.append)
    assert announced == []


def test_auto_uses_fp32_if_int8_disagrees(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "model", outlier=3000.0)
    announced: list[str] = []
    loaded = load(
        folder, name="tiny", precision="auto", data_dir=tmp_path, announce=announced.append
    )
    assert loaded.precision == "fp32"
    assert any("Using fp32" in line for line in announced)
    forced = load(
        folder, name="tiny", precision="int8", data_dir=tmp_path, announce=announced.append
    )
    assert forced.precision == "int8"


def test_fp32_makes_no_int8_form(model: Path, tmp_path: Path) -> None:
    loaded = load(model, name="tiny", precision="fp32", data_dir=tmp_path, announce=lambda _: None)
    assert loaded.precision == "fp32"
    assert not (model / RECORD).exists()
