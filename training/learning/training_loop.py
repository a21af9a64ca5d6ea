"""The loop of all trainings: for so many minutes, with checkpoints to go on from."""

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
CAPTIONS = "tab-separated: file, split, caption; photos of the split `test` are not trained on"


def add_arguments(parser: ArgumentParser, *, minutes: float) -> None:
    """Add what every training is told."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tar files")
    parser.add_argument("--captions", type=Path, help=CAPTIONS)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and the rest")
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=0)


def started(parser: ArgumentParser) -> Namespace:
    """Return what a training was told, with its folder made and its chance seeded."""
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    return given


class Loop:
    """Runs steps until the time is up; what `path` holds of an earlier run is restored.

    The learning rates that the optimizers have are their highest: there is a short rise, and then
    half a cosine down to nothing over all the minutes.
    """

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        minutes: float,
    ) -> None:
        self._path, self._parts, self._optimizers = path, parts, optimizers
        for group in self._groups():
            group["highest"] = group["lr"]
        self._budget_s = minutes * 60
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
        """The share of the time that is over."""
        return self._elapsed_s / self._budget_s

    def run(self, step: Callable[[], dict[str, float]], *, shown_every: int = 25) -> None:
        """Train; `step` makes one and tells its losses, whose means are printed."""
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
    """Return a context in which a device that has bfloat16 computes in it.

    A CPU without would emulate it, which takes several times as long as float32.
    """
    has_it = device != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device, torch.bfloat16, enabled=has_it)


def schedule(progress: float) -> float:
    """Return the share of the learning rate: a short rise, then half a cosine down to nothing."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP))))


def grouped(parameters: Iterable[nn.Parameter], *, decay: float) -> list[dict[str, object]]:
    """Return parameters for AdamW: matrices decay, what is added or scales does not."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
