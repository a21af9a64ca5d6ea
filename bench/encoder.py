"""Images per second of each encoder: `python -m bench.encoder`.

Inference only, on preprocessed images; the best of several rounds that take turns.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from app.encoding.lite import lite_directory
from app.encoding.onnx_model import OnnxModel
from app.encoding.quantization import load, probe
from app.encoding.weights import BUILTIN_DIRECTORY
from bench.vit import write_vit_b32

ROUNDS = 5
IMAGES = 32
BATCHES = (1, 4, 16, 32)


def rate(model: OnnxModel, batch: int, prepared: list[Any]) -> float:
    """Return images per second over one pass through all images."""
    start = perf_counter()
    for first in range(0, len(prepared), batch):
        model.embed_images(prepared[first : first + batch])
    return len(prepared) / (perf_counter() - start)


def main() -> None:
    images = [probe(seed) for seed in range(IMAGES)]
    with tempfile.TemporaryDirectory() as scratch:
        lite = lite_directory(Path(scratch), print)
        vit = write_vit_b32(Path(scratch) / "vit-b-32")
        options = {"data_dir": Path(scratch), "announce": lambda _: None}
        models = {
            "builtin": OnnxModel(BUILTIN_DIRECTORY, name="builtin"),
            "lite fp32": load(lite, name="lite", precision="fp32", **options),
            "lite int8": load(lite, name="lite", precision="int8", **options),
            "ViT-B/32 fp32": load(vit, name="vit", precision="fp32", **options),
            "ViT-B/32 int8": load(vit, name="vit", precision="int8", **options),
        }
        best: dict[tuple[str, int], float] = {}
        for _ in range(ROUNDS):
            for name, model in models.items():
                prepared = [model.prepare(image) for image in images]
                for batch in BATCHES:
                    key = (name, batch)
                    best[key] = max(best.get(key, 0), rate(model, batch, prepared))
    print("images per second, and relative to ViT-B/32 fp32 at the same batch size")
    print(f"{'batch':16}" + "".join(f"{batch:>16}" for batch in BATCHES))
    for name in models:
        cells = [
            f"{best[name, batch]:8.0f} {best[name, batch] / best['ViT-B/32 fp32', batch]:5.1f}x"
            for batch in BATCHES
        ]
        print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
