"""The processor that models run on: chosen, tried out, and compared with the CPU before it counts.

ONNX Runtime makes a session on the CPU, with no more than a warning, where the provider that was
asked for is not to be had. So a provider counts as used only if the session says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import onnxruntime

from app.problems import UnusableEncoder

ORT: Any = onnxruntime

ProviderName = Literal["cpu", "cuda", "coreml", "openvino"]

_GIGABYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class Provider:
    """A processor: its name, and what ONNX Runtime calls it and is told about it.

    `largest_batch` is the most images that one call embeds. Vectors of a model agree with the CPU's
    if their cosine is at least `least_cosine`.
    """

    name: ProviderName
    runtime_name: str
    options: Mapping[str, Any]
    largest_batch: int = 16
    least_cosine: float = 0.999


# Larger batches bring no more throughput there, of ViT-B/32 or of the built-in model
# (bench/encoder.py).
CPU = Provider("cpu", "CPUExecutionProvider", {})
CUDA = Provider(
    "cuda",
    "CUDAExecutionProvider",
    # Others use the GPU, too: the arena takes what it needs, up to a limit, and not twice as much.
    {"gpu_mem_limit": 8 * _GIGABYTE, "arena_extend_strategy": "kSameAsRequested"},
    largest_batch=32,
)
PROVIDERS: Mapping[str, Provider] = {
    "cpu": CPU,
    "cuda": CUDA,
    # It calculates in float16 where that is faster.
    "coreml": Provider("coreml", "CoreMLExecutionProvider", {}, least_cosine=0.99),
    "openvino": Provider("openvino", "OpenVINOExecutionProvider", {}),
}


def candidates(choice: str) -> Sequence[Provider]:
    """Return the providers to try for a value of PROVIDERS, in order.

    Raises `UnusableEncoder` if the one that is named is not part of this ONNX Runtime.
    """
    available: Sequence[str] = ORT.get_available_providers()
    if choice == "auto":
        return [CUDA, CPU] if CUDA.runtime_name in available else [CPU]
    wanted = PROVIDERS[choice]
    if wanted.runtime_name not in available:
        raise UnusableEncoder(
            f"PROVIDERS={choice}: the installed ONNX Runtime has no {wanted.runtime_name}, only "
            f"{', '.join(available)} (docs/deploy.md, “GPUs and other processors”)."
        )
    return [wanted]


def open_session(path: Path, provider: Provider, cores: int | None = None) -> Any:
    """Return a session for a model file; raises `ProviderMissing` unless it uses the provider.

    On the CPU it uses so many `cores`, by default all. Raises whatever ONNX Runtime does for a
    file that is no model.
    """
    names: list[Any] = [CPU.runtime_name]
    if provider is not CPU:
        names.insert(0, (provider.runtime_name, dict(provider.options)))
    if provider is CUDA and hasattr(ORT, "preload_dlls"):
        # CUDA and cuDNN from their own packages, which are not on the loader's path.
        ORT.preload_dlls()
    session: Any = ORT.InferenceSession(str(path), _options(cores), providers=names)
    used: Sequence[str] = session.get_providers()
    if used[0] != provider.runtime_name:
        raise ProviderMissing(f"a session has only {', '.join(used)}")
    return session


class ProviderMissing(Exception):  # noqa: N818 - becomes a problem, or a decision for the CPU
    """A session does not use the provider that was asked for."""


def _options(cores: int | None) -> Any:
    options = cast(Any, onnxruntime).SessionOptions()
    if cores is not None:
        options.intra_op_num_threads = max(1, cores)
    options.log_severity_level = 3
    # Spinning threads would occupy the cores that decoding and Postgres need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
