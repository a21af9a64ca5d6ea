"""What the network learns from its teacher: the same features in the same places.

Hints for hidden layers as in FitNets (Romero et al., ICLR 2015), and the teacher's classes for
exactly the view that the network sees (Beyer et al., "Knowledge distillation: A good teacher is
patient and consistent", CVPR 2022).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.image.network import DIMENSIONS, WIDTHS
from training.image.teacher import TeacherOutput

HINTS = ("middle", "last", "pooled")


class Distillation(nn.Module):
    """Linear maps from the network's features to the teacher's, and their losses.

    The teacher's means and deviations are those of `sample`.
    """

    def __init__(self, sample: TeacherOutput) -> None:
        super().__init__()
        middle, last = WIDTHS[-2][0], WIDTHS[-1][1]
        self.middle = nn.Conv2d(middle, sample.middle.shape[1], 1)
        self.last = nn.Conv2d(last, sample.last.shape[1], 1)
        self.pooled = nn.Linear(DIMENSIONS, sample.pooled.shape[1])
        # Classes depend on the direction alone, since that is what texts are compared with.
        self.classes = nn.Linear(DIMENSIONS, sample.logits.shape[1])
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        for name in HINTS:
            features = getattr(sample, name).transpose(0, 1).flatten(1)
            self.register_buffer(f"{name}_mean", features.mean(1))
            self.register_buffer(f"{name}_std", features.std(1) + 1e-3)

    def forward(
        self, maps: Sequence[Tensor], embeddings: Tensor, output: TeacherOutput
    ) -> dict[str, Tensor]:
        """Return each loss by name; those of hints are shares of the teacher's variance."""
        middle, last = maps
        predicted = {
            "middle": self.middle(middle.float()),
            "last": self.last(last.float()),
            "pooled": self.pooled(embeddings),
        }
        losses = {name: self._hint(name, predicted[name], output) for name in HINTS}
        logits = self.classes(functional.normalize(embeddings)) * self.scale.exp()
        target = output.logits.to(logits.device).softmax(1)
        losses["classes"] = functional.kl_div(logits.log_softmax(1), target, reduction="batchmean")
        return losses

    def _hint(self, name: str, predicted: Tensor, output: TeacherOutput) -> Tensor:
        target = getattr(output, name).to(predicted.device)
        shape = (1, -1, *[1] * (target.ndim - 2))
        mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
        target = (target - mean.view(shape)) / std.view(shape)
        if target.ndim == 4:
            target = functional.interpolate(target, predicted.shape[2:], mode="bilinear")
        return functional.mse_loss(predicted, target)
