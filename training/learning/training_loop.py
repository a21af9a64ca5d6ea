"""The loop that every training runs: for some minutes or steps, resuming from its checkpoint."""

import json
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

WARM_UP = 0.04
CHECKPOINT_S = 120
CAPTIONS_HELP = (
    "tab-separated file: file, split, caption; photos in the split `test` are not trained on"
)


def add_arguments(parser: ArgumentParser, *, minutes: float) -> None:
    """Add the options that every training has."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tar files")
    parser.add_argument("--captions", type=Path, help=CAPTIONS_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints and results"
    )
    parser.add_argument("--minutes", type=float, default=minutes, help="when to stop")
    parser.add_argument("--seed", type=int, default=0)


def parse_and_seed(parser: ArgumentParser) -> Namespace:
    """Parse the options, create the output folder and seed torch."""
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    return args


class TrainingLoop:
    """Runs steps until the time is up, or so many are done, starting from the checkpoint in `path`
    if there is one.

    The optimizers' learning rates are the highest they reach: see `schedule`. `parts` are the
    modules to save, by their names in the checkpoint.
    """

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        minutes: float,
        steps: float = math.inf,
    ) -> None:
        self._path, self._parts, self._optimizers = path, parts, optimizers
        for group in self._groups():
            group["highest"] = group["lr"]
        self._budget_s, self._steps = minutes * 60, steps
        self._elapsed_s, self._step = 0.0, 0
        if path.exists():
            state = torch.load(path)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            for optimizer, earlier in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(earlier)
            self._elapsed_s, self._step = state["elapsed_s"], state["step"]

    @property
    def progress(self) -> float:
        """The share of the time, or of the steps, that has passed, from 0 to 1."""
        return max(self._elapsed_s / self._budget_s, self._step / self._steps)

    def run(self, step: Callable[[], dict[str, float]], *, shown_every: int = 25) -> None:
        """Train; `step` runs one step and returns its losses, whose means are printed."""
        last = saved = perf_counter()
        sums: dict[str, float] = {}
        while self.progress < 1:
            for group in self._groups():
                group["lr"] = group["highest"] * schedule(self.progress)
            for name, value in step().items():
                sums[name] = sums.get(name, 0) + value
            self._step += 1
            now = perf_counter()
            self._elapsed_s, last = self._elapsed_s + now - last, now
            if self._step % shown_every == 0:
                means = {name: round(value / shown_every, 4) for name, value in sums.items()}
                print(
                    json.dumps({"step": self._step, "s": round(self._elapsed_s), **means}),
                    flush=True,
                )
                sums.clear()
            if now - saved > CHECKPOINT_S:
                self._save()
                saved = now
        self._save()

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self._optimizers:
            yield from optimizer.param_groups

    def _save(self) -> None:
        state = {
            **{name: part.state_dict() for name, part in self._parts.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "elapsed_s": self._elapsed_s,
            "step": self._step,
        }
        scratch = self._path.with_suffix(".tmp")
        torch.save(state, scratch)
        scratch.replace(self._path)


def autocast(device: str) -> torch.autocast:
    """Return a context that computes in bfloat16 on devices that support it.

    A CPU that does not would emulate it, several times as slowly as float32.
    """
    is_supported = device != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device, torch.bfloat16, enabled=is_supported)


def schedule(progress: float) -> float:
    """Return the share of the highest learning rate: a short warm-up, then a half cosine to 0."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


def decay_groups(parameters: Iterable[nn.Parameter], *, decay: float) -> list[dict[str, object]]:
    """Return parameter groups for AdamW: weights decay, biases and scales do not."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
