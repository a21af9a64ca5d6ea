"""Train the semantic branch: `python -m training.image.train_semantic --data PLACE… --out FOLDER`.

Each PLACE is a folder or a tar file of photos. The branch learns from teachers and captions. The
shared blocks are frozen, so that the copy branch's vectors stay the same.
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

from training.data.augment import Augmenter
from training.data.inputs import inputs_of_pixels
from training.data.photos import load_photos
from training.data.tables import Caption, files_in_test_split, read_captions, read_features
from training.image.head import rotate_to_principal_axes
from training.image.network import (
    DIMENSIONS,
    CopyNetwork,
    SemanticBranch,
    load_onnx,
    scaled_down,
)
from training.image.semantic_losses import CaptionLoss, PrincipalComponents, SemanticDistillation
from training.image.teacher import Teacher, outputs_of_photos
from training.image.teacher_views import TeacherViews
from training.learning.least_squares import whitening
from training.learning.muon import Muon
from training.learning.training_loop import (
    TrainingLoop,
    add_arguments,
    decay_groups,
    parse_and_seed,
)

# Views in a step, in a batch for the shared blocks, and in a sample for statistics.
BATCH, MAPS_BATCH, SAMPLE = 192, 128, 8192
# The learning rate and weight decay of the convolutions' filters, and those of everything else.
FILTERS_RATE, FILTERS_DECAY = 0.014, 0.05
RATE, DECAY = 7e-4, 0.03
# The first part of the time goes to smaller maps, of which 1.6 times as many fit in a second.
SMALL, SMALL_SHARE = 16, 0.65
# The decay of the weights' moving average, and the batches on which its normalisations are
# recomputed.
AVERAGE_DECAY, NORM_BATCHES = 0.996, 60
# The share of steps that mix views (Zhang et al., "mixup", ICLR 2018), and both parameters of the
# beta distribution that the mixture is drawn from.
MIXED_SHARE, MIXUP_BETA = 0.35, 0.8
# The share of a batch's views whose photos have captions, if there are any captions.
CAPTIONED_SHARE = 0.68


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=60)
    parser.add_argument(
        "--init", type=Path, help="an exported model to start from instead of OUT/network.pt"
    )
    parser.add_argument(
        "--features", type=Path, help="a better teacher's features of whole photos (.npz)"
    )
    parser.add_argument(
        "--views", type=int, default=120_000, help="how many views the teacher sees"
    )
    return parse_and_seed(parser)


def main() -> None:
    args = arguments()
    captions = read_captions(args.captions)
    names, pixels = load_photos(args.data, without=files_in_test_split(captions))
    print(f"{len(names)} photos", flush=True)
    known = set(names)
    captions = [caption for caption in captions if caption.file in known]
    trainer = SemanticTrainer(args, names, torch.from_numpy(pixels), captions)
    trainer.run()
    trainer.finish()


class SemanticTrainer:
    """The semantic branch, what it learns from, and one step of its training."""

    def __init__(
        self,
        args: argparse.Namespace,
        names: list[str],
        photos: Tensor,
        captions: Sequence[Caption],
    ) -> None:
        self.args = args
        self.network, self.branch = CopyNetwork(), SemanticBranch()
        teacher, augmenter = Teacher(args.out), Augmenter(args.seed)
        output = outputs_of_photos(teacher, augmenter, photos)
        # Not the views of `train_copies`, whose photos may be different ones.
        folder = args.out / "semantic"
        self.views = TeacherViews(
            folder, photos, output.logits, teacher, views=args.views, seed=args.seed
        )
        pixels, _ = self.views[torch.arange(512)]
        self._start(augmenter.mild(pixels))
        self.maps = shared_maps(self.network, self.views, folder / "maps.npy")
        sample = self.views.outputs_without_maps(torch.arange(len(self.maps))[:SAMPLE])
        self.distillation = SemanticDistillation(sample)
        self.targets, self.known = targets_of_photos(args.features, names, output.pooled)
        parts: dict[str, nn.Module] = {"branch": self.branch, "lessons": self.distillation}
        at = {name: place for place, name in enumerate(names)}
        places = torch.tensor([at[c.file] for c in captions], dtype=torch.long)
        self.captioned = torch.isin(torch.arange(len(names)), places)
        usual = self.targets[self.captioned if captions else self.known]
        self.mean, self.whitening = usual.mean(0), whitening(usual)
        self.caption_loss = None
        if captions:
            embeddings = self._embeddings(self.targets)
            self.caption_loss = CaptionLoss(captions, places, embeddings)
            parts["captions"] = self.caption_loss
        self.odds = odds_of(self.captioned[self.views.owners])
        self.mixing = torch.distributions.Beta(MIXUP_BETA, MIXUP_BETA)
        filters = [m.weight for m in self.branch.modules() if isinstance(m, nn.Conv2d)]
        filter_set = set(filters)
        others = [p for part in parts.values() for p in part.parameters() if p not in filter_set]
        self.optimizers = [
            Muon(filters, lr=FILTERS_RATE, decay=FILTERS_DECAY),
            torch.optim.AdamW(decay_groups(others, decay=DECAY), lr=RATE, betas=(0.9, 0.99)),
        ]
        average = get_ema_multi_avg_fn(AVERAGE_DECAY)
        self.averaged = parts["averaged"] = AveragedModel(self.branch, multi_avg_fn=average)
        path = args.out / "semantic.pt"
        self.loop = TrainingLoop(path, parts, self.optimizers, minutes=args.minutes)

    def run(self) -> None:
        self.branch.train()
        self.loop.run(self._train_step, shown_every=100)

    @torch.no_grad()
    def finish(self) -> None:
        """Make the averaged branch return embeddings, and save both branches for export."""
        self.branch.load_state_dict(self.averaged.module.state_dict())
        # The normalisations hold statistics of mixed views, and of weights that are not averaged.
        drawn = (torch.multinomial(self.odds, BATCH) for _ in range(NORM_BATCHES))
        features = nn.Sequential(self.branch.blocks, self.branch.pooling)
        update_bn((self._maps(places) for places in drawn), features)
        self.branch.eval()
        head = self.branch.head
        head.weight.copy_(self.whitening.T @ head.weight)
        head.bias.copy_((head.bias - self.mean) @ self.whitening)
        places = torch.randperm(len(self.maps))[:SAMPLE]
        rotate_to_principal_axes(
            head, torch.cat([features(self._maps(part)) for part in places.split(BATCH)])
        )
        state = {"network": self.network.state_dict(), "semantic": self.branch.state_dict()}
        torch.save(state, self.args.out / "network.pt")

    def _start(self, sample: Tensor) -> None:
        if self.args.init:
            load_onnx(self.network, self.args.init, sample, self.branch)
        else:
            self.network.load_state_dict(torch.load(self.args.out / "network.pt")["network"])
        self.network.eval()
        self.branch.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _embeddings(self, predicted: Tensor) -> Tensor:
        return functional.normalize((predicted - self.mean) @ self.whitening)

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
        predicted = self.branch.head(features)
        losses = self._losses(features, predicted, places)
        if share < 1:
            second = self._losses(features, predicted, places.roll(1))
            losses = {name: torch.lerp(second[name], losses[name], share) for name in losses}
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(self.branch.parameters(), 2.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.averaged.update_parameters(self.branch)
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, features: Tensor, predicted: Tensor, places: Tensor) -> dict[str, Tensor]:
        """Return each loss of the views at these places by name."""
        photos = self.views.owners[places]
        known, captioned = self.known[photos], self.captioned[photos]
        losses = self.distillation(features, self.views.outputs_without_maps(places))
        targets = self.targets[photos[known]]
        losses["whole"] = functional.mse_loss(predicted[known], targets)
        if self.caption_loss and captioned.any():
            embeddings = self._embeddings(predicted[captioned])
            losses["captions"] = self.caption_loss(embeddings, photos[captioned])
        return losses


def shared_maps(network: CopyNetwork, views: TeacherViews, path: Path) -> NDArray[np.float16]:
    """Return the shared blocks' feature maps of every view, (n, 24, 24, 48), half of them mirrored.

    The shared blocks are frozen, so that one pass is enough; its result is kept in the file `path`.
    """
    if not path.exists():
        scratch, made = path.with_suffix(".tmp"), None
        for places in torch.arange(len(views.owners)).split(MAPS_BATCH):
            pixels, _ = views[places]
            with torch.no_grad():
                maps = scaled_down(network.shared(inputs_of_pixels(pixels)))
            rows = maps.permute(0, 2, 3, 1).half().numpy()
            if made is None:
                shape = (len(views.owners), *rows.shape[1:])
                made = np.lib.format.open_memmap(scratch, "w+", np.float16, shape)
            made[places[0] : places[0] + len(places)] = rows
        scratch.replace(path)
    return np.load(path, mmap_mode="r")


def targets_of_photos(
    path: Path | None, names: list[str], features: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what to predict of each whole photo, (photos, 512), and for which photos it is known.

    These are the better teacher's features from `path`, if there is one, or else `features`, the
    teacher's own.
    """
    if path is None:
        known = torch.ones(len(names), dtype=torch.bool)
    else:
        better, is_known = read_features(path, names)
        features, known = torch.from_numpy(better), torch.from_numpy(is_known)
    return PrincipalComponents.of(features[known], DIMENSIONS)(features), known


def odds_of(captioned: Tensor) -> Tensor:
    """Return each view's odds of being drawn, so that the right share of a batch has captions."""
    share = CAPTIONED_SHARE if captioned.any() else 0.0
    rest = (~captioned).float() / (~captioned).sum().clamp(min=1)
    return share * captioned.float() / captioned.sum().clamp(min=1) + (1 - share) * rest


if __name__ == "__main__":
    main()
