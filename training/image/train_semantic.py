"""Train the semantic branch: `python -m training.image.train_semantic --data PLACE… --out FOLDER`.

Against teachers and captions, on what the first blocks see, which stay as they are: so the branch
for copies keeps every vector that it had.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from training.data.augment import Augmenter, inputs_of_pixels
from training.data.photos import (
    Caption,
    files_to_test_on,
    load_photos,
    read_captions,
    read_features,
)
from training.image.head import turn
from training.image.network import (
    DIMENSIONS,
    Network,
    SemanticBranch,
    load_onnx,
    smaller,
)
from training.image.semantic_losses import CaptionLessons, Principal, SemanticLessons
from training.image.teacher import Teacher, seen
from training.image.teacher_views import Taught
from training.learning.least_squares import spread_of
from training.learning.muon import Muon
from training.learning.training_loop import Loop, add_arguments, grouped, started

# Views: of a step, that the first blocks look at together, and that tell what is usual.
BATCH, LOOKED_AT, SAMPLE = 192, 128, 8192
# Of the convolutions' filters, and of all else.
FILTERS_RATE, FILTERS_DECAY = 0.014, 0.05
RATE, DECAY = 7e-4, 0.03
# The first part of the time goes to smaller maps, of which there are 1.6 times as many a second.
SMALL, SMALL_SHARE = 16, 0.65
# What a step leaves of the weights' moving average, and batches on which its normalisations settle.
KEPT, SETTLING = 0.996, 60
# The share of steps whose views are laid over each other (Zhang et al., "mixup", ICLR 2018), and
# how evenly.
MIXED_SHARE, EVENNESS = 0.35, 0.8
# The share of a batch that has captions, if any has.
CAPTIONED_SHARE = 0.68


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=60)
    parser.add_argument("--init", type=Path, help="an exported model, in place of OUT/network.pt")
    parser.add_argument("--features", type=Path, help="a better teacher's, of whole photos (.npz)")
    parser.add_argument("--views", type=int, default=120_000, help="how many the teacher sees")
    return started(parser)


def main() -> None:
    given = arguments()
    captions = read_captions(given.captions)
    names, pixels = load_photos(given.data, without=files_to_test_on(captions))
    print(f"{len(names)} pictures", flush=True)
    known = set(names)
    captions = [caption for caption in captions if caption.file in known]
    trainer = Trainer(given, names, torch.from_numpy(pixels), captions)
    trainer.run()
    trainer.finish()


class Trainer:
    """What is trained, on what, and a step of it."""

    def __init__(
        self,
        given: argparse.Namespace,
        names: list[str],
        photos: Tensor,
        captions: Sequence[Caption],
    ) -> None:
        self.given = given
        self.network, self.branch = Network(), SemanticBranch()
        teacher, augmenter = Teacher(given.out), Augmenter(given.seed)
        lesson = seen(teacher, augmenter, photos)
        # Not those of `training.image.train_copies`, whose photos may be others.
        folder = given.out / "semantic"
        self.taught = Taught(
            folder, photos, lesson.logits, teacher, views=given.views, seed=given.seed
        )
        pixels, _ = self.taught[torch.arange(512)]
        self._start(augmenter.mild(pixels))
        self.maps = shared_maps(self.network, self.taught, folder / "maps.npy")
        self.lessons = SemanticLessons(self.taught.whole(torch.arange(len(self.maps))[:SAMPLE]))
        self.whole, self.known = whole_photos(given.features, names, lesson.pooled)
        parts: dict[str, nn.Module] = {"branch": self.branch, "lessons": self.lessons}
        at = {name: place for place, name in enumerate(names)}
        places = torch.tensor([at[c.file] for c in captions], dtype=torch.long)
        self.captioned = torch.isin(torch.arange(len(names)), places)
        usual = self.whole[self.captioned if captions else self.known]
        self.mean, self.spread = usual.mean(0), spread_of(usual)
        self.captions = None
        if captions:
            embeddings = self._embeddings(self.whole)
            self.captions = parts["captions"] = CaptionLessons(captions, places, embeddings)
        self.odds = odds_of(self.captioned[self.taught.owners])
        self.mixing = torch.distributions.Beta(EVENNESS, EVENNESS)
        filters = [m.weight for m in self.branch.modules() if isinstance(m, nn.Conv2d)]
        of_filters = set(filters)
        others = [p for part in parts.values() for p in part.parameters() if p not in of_filters]
        self.optimizers = [
            Muon(filters, lr=FILTERS_RATE, decay=FILTERS_DECAY),
            torch.optim.AdamW(grouped(others, decay=DECAY), lr=RATE, betas=(0.9, 0.99)),
        ]
        average = get_ema_multi_avg_fn(KEPT)
        self.averaged = parts["averaged"] = AveragedModel(self.branch, multi_avg_fn=average)
        path = given.out / "semantic.pt"
        self.loop = Loop(path, parts, self.optimizers, minutes=given.minutes)

    def run(self) -> None:
        self.branch.train()
        self.loop.run(self._train_step, shown_every=100)

    @torch.no_grad()
    def finish(self) -> None:
        """Turn what the branch tells into embeddings, and write what is to be exported."""
        self.branch.load_state_dict(self.averaged.module.state_dict())
        # What mixed views made the normalisations take for usual is not, nor by averaged weights.
        drawn = (torch.multinomial(self.odds, BATCH) for _ in range(SETTLING))
        features = nn.Sequential(self.branch.blocks, self.branch.pooling)
        update_bn((self._maps(places) for places in drawn), features)
        self.branch.eval()
        head = self.branch.head
        head.weight.copy_(self.spread.T @ head.weight)
        head.bias.copy_((head.bias - self.mean) @ self.spread)
        places = torch.randperm(len(self.maps))[:SAMPLE]
        turn(head, torch.cat([features(self._maps(part)) for part in places.split(BATCH)]))
        state = {"network": self.network.state_dict(), "semantic": self.branch.state_dict()}
        torch.save(state, self.given.out / "network.pt")

    def _start(self, sample: Tensor) -> None:
        if self.given.init:
            load_onnx(self.network, self.given.init, sample, self.branch)
        else:
            self.network.load_state_dict(torch.load(self.given.out / "network.pt")["network"])
        self.network.eval()
        self.branch.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _embeddings(self, told: Tensor) -> Tensor:
        return functional.normalize((told - self.mean) @ self.spread)

    def _maps(self, places: Tensor) -> Tensor:
        return torch.from_numpy(self.maps[places.numpy()]).float().permute(0, 3, 1, 2)

    def _train_step(self) -> dict[str, float]:
        places = torch.multinomial(self.odds, BATCH)
        maps = self._maps(places)
        share = self.mixing.sample().item() if torch.rand(()) < MIXED_SHARE else 1.0
        if share < 1:
            maps = torch.lerp(maps.roll(1, 0), maps, share)
        if self.loop.progress < SMALL_SHARE:
            maps = functional.interpolate(maps, SMALL, mode="bilinear", antialias=True)
        features = self.branch.features(maps.contiguous(memory_format=torch.channels_last))
        told = self.branch.head(features)
        losses = self._losses(features, told, places)
        if share < 1:
            second = self._losses(features, told, places.roll(1))
            losses = {name: torch.lerp(second[name], losses[name], share) for name in losses}
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(self.branch.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.averaged.update_parameters(self.branch)
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, features: Tensor, told: Tensor, places: Tensor) -> dict[str, Tensor]:
        """Return how far what is told is from what is to be told of the views at these places."""
        photos = self.taught.owners[places]
        known, captioned = self.known[photos], self.captioned[photos]
        losses = self.lessons(features, self.taught.whole(places))
        losses["whole"] = functional.mse_loss(told[known], self.whole[photos[known]])
        if self.captions and captioned.any():
            embeddings = self._embeddings(told[captioned])
            losses["captions"] = self.captions(embeddings, photos[captioned])
        return losses


def shared_maps(network: Network, taught: Taught, path: Path) -> NDArray[np.float16]:
    """Return what the first blocks see in every view, (n, 24, 24, 48), half of them mirrored.

    They do not learn, so that to ask them once is enough; kept in the file `path`.
    """
    if not path.exists():
        scratch, made = path.with_suffix(".tmp"), None
        for places in torch.arange(len(taught.owners)).split(LOOKED_AT):
            pixels, _ = taught[places]
            with torch.no_grad():
                maps = smaller(network.shared(inputs_of_pixels(pixels)))
            rows = maps.permute(0, 2, 3, 1).half().numpy()
            if made is None:
                shape = (len(taught.owners), *rows.shape[1:])
                made = np.lib.format.open_memmap(scratch, "w+", np.float16, shape)
            made[places[0] : places[0] + len(places)] = rows
        scratch.replace(path)
    return np.load(path, mmap_mode="r")


def whole_photos(path: Path | None, names: list[str], told: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is to be told of each whole photo, (photos, 512), and of which it is known.

    From the file of features, if there is one; else from what the teacher itself has `told`.
    """
    if path is None:
        known = torch.ones(len(names), dtype=torch.bool)
    else:
        features, is_known = read_features(path, names)
        told, known = torch.from_numpy(features), torch.from_numpy(is_known)
    return Principal.of(told[known], DIMENSIONS)(told), known


def odds_of(captioned: Tensor) -> Tensor:
    """Return the odds with which each view is drawn, so that so many have captions."""
    share = CAPTIONED_SHARE if captioned.any() else 0.0
    rest = (~captioned).float() / (~captioned).sum().clamp(min=1)
    return share * captioned.float() / captioned.sum().clamp(min=1) + (1 - share) * rest


if __name__ == "__main__":
    main()
