"""Muon, for the weights of convolutions (Jordan et al., "Muon: An optimizer for hidden layers in
neural networks", 2024): each step changes a matrix equally in every direction.

Not `torch.optim.Muon`, which takes matrices only and computes in bfloat16: a CPU without bfloat16
emulates it, which takes 30 times as long.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
# The quintic Newton-Schulz iteration that brings singular values close to 1 (Jordan et al., 2024).
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum; each parameter, (outputs, …), is treated as a matrix."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group["lr"], group["decay"])

    def _step(self, parameter: nn.Parameter, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        change = orthogonal(matrix).view(parameter.shape)
        parameter.mul_(1 - rate * decay)
        parameter.sub_(change, alpha=rate * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with nearly the same singular vectors and with singular values near 1."""
    x = matrix / (matrix.norm() + 1e-7)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if is_tall else x
