"""The int8 form of an image tower, and its measured agreement with fp32.

Quantization is dynamic, per channel, and limited to MatMul and Gemm: convolutions lose more than
they gain. The result and the agreement are stored beside the model, or under `DATA_DIR` if that
folder is read-only.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.encoding.encoder import Vectors
from app.encoding.onnx_model import INT8, VISION, OnnxModel, fingerprint
from app.encoding.providers import CPU, Provider, ProviderMissing, candidates
from app.problems import UnusableEncoder

MIN_AGREEMENT = 0.99
PROBES = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """The mean and lowest cosine between the fp32 and int8 vectors of the probe images."""

    mean_cosine: float
    min_cosine: float
    pictures: int


def load(
    directory: Path,
    *,
    name: str,
    precision: Literal["auto", "fp32", "int8"],
    data_dir: Path,
    announce: Callable[[str], None],
    providers: str = "cpu",
) -> OnnxModel:
    """Load a model directory with the given precision; raises `UnusableEncoder`.

    `auto` uses int8 on the CPU if its mean cosine with fp32 is at least 0.99. The int8 form is made
    and measured once, then read from disk. A directory that has an int8 form keeps it. `providers`
    is a value of PROVIDERS; other processors use fp32, and one whose vectors differ from the CPU's
    gives way to it.
    """
    for provider in candidates(providers):
        if provider is not CPU:
            model = _elsewhere(directory, name, provider, providers, announce)
            if model is not None:
                return model
    if precision == "fp32":
        return OnnxModel(directory, name=name)
    folder = _writable_folder(directory, name, data_dir)
    vision, record = folder / INT8.name, folder / INT8.with_suffix(".json").name
    if not vision.exists():
        announce(f"Quantizing {name} to int8 (once)")
        _quantize(directory / VISION, vision)
    if not record.exists():
        agreement = _measure(directory, vision, name)
        record.write_text(json.dumps(asdict(agreement), indent=2) + "\n", "utf-8")
        announce(f"int8 agrees with fp32: mean cosine {agreement.mean_cosine:.4f}")
    agreement = Agreement(**json.loads(record.read_text("utf-8")))
    if precision == "auto" and agreement.mean_cosine < MIN_AGREEMENT:
        announce(f"Using fp32: the mean cosine of int8 is only {agreement.mean_cosine:.4f}")
        return OnnxModel(directory, name=name)
    return OnnxModel(directory, name=name, vision=vision)


def _elsewhere(
    directory: Path, name: str, provider: Provider, choice: str, announce: Callable[[str], None]
) -> OnnxModel | None:
    """Return the model in fp32 on another processor; None if that does not do what the CPU does.

    Raises `UnusableEncoder` if it was asked for by its name and cannot be had.
    """
    reference = OnnxModel(directory, name=name)
    try:
        model = OnnxModel(directory, name=name, provider=provider)
        lowest = _agreement_with_cpu(model, reference)
    except (ProviderMissing, UnusableEncoder) as exc:
        if choice != "auto":
            raise UnusableEncoder(f"PROVIDERS={choice} cannot be had: {exc}.") from exc
        announce(f"Using the CPU: {provider.name} cannot be had ({exc})")
        return None
    if not lowest >= provider.least_cosine:
        announce(
            f"Using the CPU: vectors from {provider.name} differ from the CPU's "
            f"(cosine {lowest:.4f}, needed {provider.least_cosine:g})"
        )
        return None
    announce(f"Using {provider.name}: its vectors agree with the CPU's (cosine {lowest:.4f})")
    return model


def _agreement_with_cpu(model: OnnxModel, reference: OnnxModel) -> float:
    """Return the lowest cosine with the CPU's vectors, alone and in a full batch."""
    prepared = [model.prepare(probe(seed)) for seed in range(PROBES)]
    expected = np.concatenate([reference.embed_images([one]) for one in prepared])
    batch = [prepared[i % PROBES] for i in range(model.largest_batch)]
    places = [i % PROBES for i in range(model.largest_batch)]
    alone = _cosines(model.embed_images(prepared[:1]), expected[:1])
    together = _cosines(model.embed_images(batch), expected[places])
    return float(np.min([*alone, *together]))


def _writable_folder(directory: Path, name: str, data_dir: Path) -> Path:
    beside = (directory / VISION).parent
    if os.access(beside, os.W_OK):
        return beside
    folder = data_dir / "models" / f"{name.replace('/', '--')}-{fingerprint(directory)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _quantize(source: Path, target: Path) -> None:
    # Imported here because it takes as long as the rest of a start, and runs once per model.
    from onnxruntime.quantization import (
        QuantType,
        quantize_dynamic,  # pyright: ignore[reportUnknownVariableType]
    )

    # Renamed into place when complete, so that an interrupted start leaves no partial model.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it logs advice on preprocessing to the root logger
        try:
            quantize_dynamic(
                source,
                made,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                # 7 bits: CPUs without VNNI add products in 16 bits, which 8 would overflow, and the
                # file may be used on another CPU than this one.
                reduce_range=True,
            )
        finally:
            root.setLevel(level)
        made.replace(target)


def _measure(directory: Path, vision: Path, name: str) -> Agreement:
    full, small = OnnxModel(directory, name=name), OnnxModel(directory, name=name, vision=vision)
    images = [probe(seed) for seed in range(PROBES)]
    cosines = _cosines(_embed(full, images), _embed(small, images))
    return Agreement(round(float(cosines.mean()), 6), round(float(cosines.min()), 6), PROBES)


def _embed(model: OnnxModel, images: list[Image.Image]) -> Vectors:
    return np.concatenate([model.embed_images([model.prepare(image)]) for image in images])


def _cosines(a: Vectors, b: Vectors) -> Vectors:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.maximum(norms, 1e-12)


def probe(seed: int) -> Image.Image:
    """Return a 256 x 256 synthetic image: a gradient, overlapping discs and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:256, 0:256] / 256
    pixels: NDArray[np.float64] = np.zeros((256, 256, 3))
    pixels += rng.uniform(0, 255, 3) * x[..., None]
    pixels += rng.uniform(0, 255, 3) * (1 - y[..., None])
    for _ in range(40):
        disc = (x - rng.random()) ** 2 + (y - rng.random()) ** 2 < rng.uniform(0.02, 0.25) ** 2
        pixels[disc] = rng.uniform(0, 255, 3)
    pixels += rng.normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
