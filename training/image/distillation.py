"""What the network learns from its teacher: the same features at the same places.

Hints for hidden layers as in FitNets (Romero et al., ICLR 2015), and the same classes for the very
view that the network sees (Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent", CVPR 2022).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.image.network import DIMENSIONS, WIDTHS
from training.image.teacher import Lesson

HINTS = ("middle", "last", "pooled")


class Lessons(nn.Module):
    """Linear maps from the network's features to the teacher's, and the losses of both."""

    def __init__(self, sample: Lesson) -> None:
        super().__init__()
        middle, last = WIDTHS[-2][0], WIDTHS[-1][1]
        self.middle = nn.Conv2d(middle, sample.middle.shape[1], 1)
        self.last = nn.Conv2d(last, sample.last.shape[1], 1)
        self.pooled = nn.Linear(DIMENSIONS, sample.pooled.shape[1])
        # Classes are told from the direction alone, which is what a phrase will be compared with.
        self.classes = nn.Linear(DIMENSIONS, sample.logits.shape[1])
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        for name in HINTS:
            features = getattr(sample, name).transpose(0, 1).flatten(1)
            self.register_buffer(f"{name}_mean", features.mean(1))
            self.register_buffer(f"{name}_std", features.std(1) + 1e-3)

    def forward(
        self, maps: Sequence[Tensor], embeddings: Tensor, lesson: Lesson
    ) -> dict[str, Tensor]:
        """Return each loss; the hints' are shares of the teacher's variance."""
        middle, last = maps
        said = {
            "middle": self.middle(middle.float()),
            "last": self.last(last.float()),
            "pooled": self.pooled(embeddings),
        }
        losses = {name: self._hint(name, said[name], lesson) for name in HINTS}
        logits = self.classes(functional.normalize(embeddings)) * self.scale.exp()
        target = lesson.logits.to(logits.device).softmax(1)
        losses["classes"] = functional.kl_div(logits.log_softmax(1), target, reduction="batchmean")
        return losses

    def _hint(self, name: str, said: Tensor, lesson: Lesson) -> Tensor:
        target = getattr(lesson, name).to(said.device)
        shape = (1, -1, *[1] * (target.ndim - 2))
        mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
        target = (target - mean.view(shape)) / std.view(shape)
        if target.ndim == 4:
            target = functional.interpolate(target, said.shape[2:], mode="bilinear")
        return functional.mse_loss(said, target)
