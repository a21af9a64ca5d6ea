"""Which processor is used, and that a session on the CPU never passes for another."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.encoding import onnx_model, providers
from app.encoding.onnx_model import OnnxModel
from app.encoding.providers import CPU, CUDA, PROVIDERS, Provider, ProviderMissing, candidates
from app.encoding.quantization import load
from app.problems import UnusableEncoder
from tests.conftest import Server
from tests.onnx_models import write_clip

ONLY_CPU = ["AzureExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def cuda_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the package for GPUs on a machine without one."""
    listed = ["CUDAExecutionProvider", *ONLY_CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)


class Elsewhere:
    """A session that says that it uses CUDA, and adds something to what the CPU calculates."""

    def __init__(self, session: Any, added: float) -> None:
        self._session = session
        self._added = added
        self.batches: list[int] = []

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        (vectors,) = self._session.run(names, feeds)
        self.batches.append(len(vectors))
        vectors[-1, 0] += self._added
        return [vectors]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch, cuda_is_listed: None) -> Any:
    """CUDA as it would be, off by `added`."""
    opened: list[Elsewhere] = []

    def make(added: float) -> list[Elsewhere]:
        def open_session(path: Path, provider: Provider, cores: int | None = None) -> Any:
            session = providers.open_session(path, CPU, cores)
            if provider is CPU:
                return session
            opened.append(Elsewhere(session, added))
            return opened[-1]

        monkeypatch.setattr(onnx_model, "open_session", open_session)
        return opened

    return make


def loaded(folder: Path, choice: str) -> tuple[OnnxModel, list[str]]:
    said: list[str] = []
    model = load(
        write_clip(folder / "m"),
        name="tiny",
        precision="fp32",
        data_dir=folder,
        announce=said.append,
        providers=choice,
    )
    return model, said


def test_without_others_the_cpu_is_used_and_nothing_is_said(tmp_path: Path) -> None:
    model, said = loaded(tmp_path, "auto")
    assert (model.provider, model.largest_batch, said) == ("cpu", 16, [])
    assert candidates("cpu") == [CPU]


@pytest.mark.parametrize("choice", sorted(PROVIDERS.keys() - {"cpu"}))
def test_a_processor_that_is_not_part_of_the_package_stops_the_start(choice: str) -> None:
    with pytest.raises(UnusableEncoder) as caught:
        candidates(choice)
    assert caught.value.detail.startswith(f"PROVIDERS={choice}: ")
    assert "\n" not in caught.value.detail


def test_a_session_on_the_cpu_is_not_one_on_a_gpu(tmp_path: Path, cuda_is_listed: None) -> None:
    path = write_clip(tmp_path / "m") / "onnx/vision_model.onnx"
    with warnings.catch_warnings():
        # ONNX Runtime's own, and all that it says.
        warnings.simplefilter("ignore")
        with pytest.raises(ProviderMissing, match="CPUExecutionProvider"):
            providers.open_session(path, CUDA)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_falls_back_to_the_cpu_and_says_so(tmp_path: Path, cuda_is_listed: None) -> None:
    model, [said] = loaded(tmp_path, "auto")
    assert model.provider == "cpu"
    assert said.startswith("Using the CPU: cuda cannot be had")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_was_asked_for_and_is_not_there_stops_the_start(
    tmp_path: Path, cuda_is_listed: None
) -> None:
    with pytest.raises(UnusableEncoder, match="PROVIDERS=cuda cannot be had") as caught:
        loaded(tmp_path, "cuda")
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_a_gpu_that_agrees_is_used_after_it_was_tried(
    tmp_path: Path, sessions: Any, choice: str
) -> None:
    opened = sessions(1e-4)
    model, [said] = loaded(tmp_path, choice)
    assert (model.provider, model.largest_batch) == ("cuda", CUDA.largest_batch)
    assert said.startswith("Using cuda")
    # The start of every model, and then the probe: alone, and in the largest batch.
    assert opened[0].batches == [1, 1, CUDA.largest_batch]


@pytest.mark.parametrize("added", [10.0, np.nan])
@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_a_gpu_that_disagrees_gives_way_and_that_is_said(
    tmp_path: Path, sessions: Any, choice: str, added: float
) -> None:
    sessions(added)
    model, [said] = loaded(tmp_path, choice)
    assert model.provider == "cpu"
    assert said.startswith("Using the CPU: vectors from cuda differ")


def test_what_is_really_used_is_told(server: Server) -> None:
    assert server.client.get("/readyz").json() == {"status": "ok", "provider": "cpu"}
    encoder = server.client.get("/api/stats").json()["encoder"]
    assert (encoder["provider"], encoder["largest_batch"]) == ("cpu", 16)
