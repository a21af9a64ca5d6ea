"""The encoders to measure, by their names on the command line."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from app.encoding.lite import LITE, lite_directory
from app.encoding.onnx_model import INT8, OnnxModel
from app.encoding.weights import BUILTIN, BUILTIN_DIRECTORY

# Where the server makes `lite`, unless DATA_DIR says otherwise.
DATA_DIR = Path("data")


def add_models(parser: ArgumentParser, *, default: Sequence[str]) -> None:
    """Add the option --model."""
    parser.add_argument(
        "--model",
        nargs="*",
        default=list(default),
        help=f"{BUILTIN}, {LITE} or model directories",
    )


def load_models(names: Sequence[str]) -> dict[str, OnnxModel]:
    """Return the encoders as the server runs them, by short names, in the same order."""
    return {Path(name).name: _load(name) for name in names}


def lite_folder() -> Path:
    """Return lite's model directory, made if need be."""
    return lite_directory(DATA_DIR, print)


def _load(name: str) -> OnnxModel:
    if name == BUILTIN:
        return OnnxModel(BUILTIN_DIRECTORY, name=name)
    folder = lite_folder() if name == LITE else Path(name)
    vision = folder / INT8
    return OnnxModel(folder, name=name, vision=vision if vision.exists() else None)
