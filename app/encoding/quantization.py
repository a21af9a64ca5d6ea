"""The int8 form of an image tower, and how far it agrees with fp32.

Dynamic, per channel, of MatMul and Gemm only: convolutions lose more than they gain. The result
and the measured agreement are kept beside the model, or under `DATA_DIR` where that is read-only.
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
from app.encoding.onnx_model import VISION, OnnxModel, fingerprint

MIN_AGREEMENT = 0.99
PROBES = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """Mean and lowest cosine between the fp32 and int8 vectors of the probe pictures."""

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
) -> OnnxModel:
    """Load a model directory in the precision asked for.

    `auto` keeps int8 if the mean cosine with fp32 is at least 0.99. What was made and measured
    once is read again at the next start.
    """
    if precision == "fp32":
        return OnnxModel(directory, name=name)
    folder = _writable_folder(directory, name, data_dir)
    vision, record = folder / "vision_model_int8.onnx", folder / "vision_model_int8.json"
    if not (vision.exists() and record.exists()):
        announce(f"Making the int8 form of {name} (once)")
        _quantize(directory / VISION, vision)
        agreement = _measure(directory, vision, name)
        record.write_text(json.dumps(asdict(agreement), indent=2) + "\n", "utf-8")
        announce(f"int8 agrees with fp32 to a mean cosine of {agreement.mean_cosine:.4f}")
    agreement = Agreement(**json.loads(record.read_text("utf-8")))
    if precision == "auto" and agreement.mean_cosine < MIN_AGREEMENT:
        announce(f"int8 agrees only to {agreement.mean_cosine:.4f}: keeping fp32")
        return OnnxModel(directory, name=name)
    return OnnxModel(directory, name=name, vision=vision)


def _writable_folder(directory: Path, name: str, data_dir: Path) -> Path:
    beside = (directory / VISION).parent
    if os.access(beside, os.W_OK):
        return beside
    folder = data_dir / "models" / f"{name.replace('/', '--')}-{fingerprint(directory)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _quantize(source: Path, target: Path) -> None:
    # Imported here because it takes as long as all else of a start, and runs once for each model.
    from onnxruntime.quantization import (
        QuantType,
        quantize_dynamic,  # pyright: ignore[reportUnknownVariableType]
    )

    # Renamed into place when complete, so that a stopped start leaves no half a model.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # its advice on preprocessing goes to the root logger
        try:
            quantize_dynamic(
                source,
                made,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                # 7 bits, whose sums of products fit into the 16 bits that CPUs without VNNI
                # instructions add them up in: a file may be made on one CPU and used on another.
                reduce_range=True,
            )
        finally:
            root.setLevel(level)
        made.replace(target)


def _measure(directory: Path, vision: Path, name: str) -> Agreement:
    full, small = OnnxModel(directory, name=name), OnnxModel(directory, name=name, vision=vision)
    pictures = [probe(seed) for seed in range(PROBES)]
    cosines = _cosines(_embed(full, pictures), _embed(small, pictures))
    return Agreement(round(float(cosines.mean()), 6), round(float(cosines.min()), 6), PROBES)


def _embed(model: OnnxModel, pictures: list[Image.Image]) -> Vectors:
    return np.concatenate([model.embed_images([model.prepare(picture)]) for picture in pictures])


def _cosines(a: Vectors, b: Vectors) -> Vectors:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.maximum(norms, 1e-12)


def probe(seed: int) -> Image.Image:
    """Return a procedural picture: smooth colour, overlapping discs and a little noise."""
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
