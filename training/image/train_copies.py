"""Train a network that finds copies:
`python -m training.image.train_copies --data PLACE… --out FOLDER`.

Each PLACE is a folder or a tar file of photos.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augment import Augmenter
from training.data.inputs import as_pixels
from training.data.photos import load_photos, with_procedural
from training.data.tables import files_in_test_split, read_captions
from training.image.distillation import Distillation
from training.image.head import features_of_views, rotate_to_principal_axes, train_head
from training.image.network import CopyNetwork, load_onnx
from training.image.teacher import Teacher, outputs_of_photos
from training.image.teacher_views import TeacherViews
from training.learning.losses import copies_loss
from training.learning.training_loop import (
    TrainingLoop,
    add_arguments,
    autocast,
    decay_groups,
    parse_and_seed,
)

# A batch's pairs of views, and its further views, which are for distillation only.
PAIRS, UNPAIRED = 88, 80
# The first part of the time goes to smaller inputs, of which twice as many fit in a second.
SMALL, SMALL_SHARE = 96, 0.55
RATE, DECAY = 1e-3, 0.02
# How many of the nearest photos, by the teacher's features, a neighbour is drawn from.
NEIGHBOURS = 12


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=150)
    parser.add_argument("--init", type=Path, help="an exported model to start from")
    parser.add_argument(
        "--views", type=int, default=120_000, help="how many views the teacher sees"
    )
    parser.add_argument(
        "--procedural", type=int, default=2000, help="how many procedural images to add"
    )
    return parse_and_seed(parser)


def main() -> None:
    args = arguments()
    test_split = files_in_test_split(read_captions(args.captions))
    photos = load_photos(args.data, without=test_split)
    names, pixels = with_procedural(*photos, args.procedural)
    print(f"{len(names)} photos and procedural images", flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = CopyTrainer(args, torch.from_numpy(pixels), device)
    trainer.run()
    trainer.finish()


class CopyTrainer:
    """The network, what it learns from, and one step of its training."""

    def __init__(self, args: argparse.Namespace, photos: Tensor, device: str) -> None:
        self.args, self.photos, self.device = args, photos, device
        self.augmenter = Augmenter(args.seed)
        self.network = CopyNetwork().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        teacher = Teacher(args.out)
        output = outputs_of_photos(teacher, self.augmenter, photos)
        self.neighbours = nearest_photos(
            functional.normalize(output.pooled - output.pooled.mean(0))
        )
        self.views = TeacherViews(
            args.out / "taught", photos, output.logits, teacher, views=args.views, seed=args.seed
        )
        sample, output = self.views[torch.arange(512)]
        self.distillation = Distillation(output)
        checkpoint = args.out / "checkpoint.pt"
        if args.init and not checkpoint.exists():
            load_onnx(self.network, args.init, self.augmenter.mild(sample))
        self.network.to(device)
        self.distillation.to(device)
        parameters = [*self.network.parameters(), *self.distillation.parameters()]
        self.optimizer = torch.optim.AdamW(
            decay_groups(parameters, decay=DECAY), lr=RATE, betas=(0.9, 0.99)
        )
        # The names in the checkpoint.
        parts = {"network": self.network, "lessons": self.distillation}
        self.loop = TrainingLoop(checkpoint, parts, [self.optimizer], minutes=args.minutes)

    def run(self) -> None:
        self.network.train()
        self.loop.run(self._train_step)

    def finish(self) -> None:
        """Train the last layer once more, for copies, and save the network for export."""
        features = features_of_views(self.network, self.photos, self._views_of)
        train_head(self.network.head, features)
        rotate_to_principal_axes(self.network.head, features[0].float())
        torch.save({"network": self.network.state_dict()}, self.args.out / "network.pt")

    def _views_of(self, owners: Tensor) -> list[Tensor]:
        """Return two mild and three strong views of photos."""
        x, augmenter = self._pixels(owners), self.augmenter
        pixels, _ = self.views[self.views.of_photos(owners)]
        mild = [augmenter.plain(x), augmenter.mild(pixels)]
        strong = [augmenter.strong(x) for _ in range(3)]
        return [view.to(self.device) for view in mild + strong]

    def _train_step(self) -> dict[str, float]:
        owners = self._owners()
        paired = self.views.of_photos(owners)
        others = torch.randint(len(self.views.owners), (UNPAIRED,))
        pixels, output = self.views[torch.cat([paired, others])]
        views = torch.cat(
            [self.augmenter.mild(pixels), self.augmenter.strong(self._pixels(owners))]
        )
        if self.loop.progress < SMALL_SHARE:
            views = functional.interpolate(views, SMALL, mode="bilinear", antialias=True)
        views = views.to(self.device, memory_format=torch.channels_last)
        with autocast(self.device):
            maps = self.network.maps(views)
            raw = self.network.head(self.network.pooling(maps[-1])).float()
        count = len(pixels)
        distilled = self.distillation([part[:count] for part in maps], raw[:count], output)
        vectors = functional.normalize(raw).cpu()
        a, b = vectors[: len(owners)], vectors[count:]
        copies = copies_loss(a, b)
        loss = copies + sum(distilled.values())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        return {
            "copies": copies.item(),
            **{name: value.item() for name, value in distilled.items()},
            "similarity of copies": (a * b).sum(1).mean().item(),
        }

    def _owners(self) -> Tensor:
        """Draw a batch of photos: half at random, half from their neighbours as hard negatives."""
        anchors = torch.randperm(len(self.photos))[: PAIRS // 2]
        which = torch.randint(NEIGHBOURS, (len(anchors), 1))
        drawn = torch.cat([anchors, self.neighbours[anchors].gather(1, which).squeeze(1)]).unique()
        fill = torch.randperm(len(self.photos))
        fill = fill[~torch.isin(fill, drawn)][: PAIRS - len(drawn)]
        owners = torch.cat([drawn, fill])
        return owners[torch.randperm(len(owners))]

    def _pixels(self, owners: Tensor) -> Tensor:
        return as_pixels(self.photos[owners])


def nearest_photos(features: Tensor) -> Tensor:
    """Return the indices of each photo's nearest others by the teacher's features, (n, 12).

    The very nearest is left out: too often, it is the same thing photographed twice.
    """
    parts = [
        (part @ features.T).topk(NEIGHBOURS + 2, dim=1).indices[:, 2:]
        for part in features.split(512)
    ]
    return torch.cat(parts)


if __name__ == "__main__":
    main()
