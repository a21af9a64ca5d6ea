"""Train the network: `python -m training.image.train_copies --data FOLDER_OR_TAR… --out FOLDER`."""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augment import Augmenter, as_pixels
from training.data.photos import files_to_test_on, load_photos, read_captions, with_procedural
from training.image.distillation import Lessons
from training.image.head import features, train_head, turn
from training.image.network import Network, load_onnx
from training.image.teacher import Teacher, seen
from training.image.teacher_views import Taught
from training.learning.losses import copies_loss
from training.learning.training_loop import Loop, add_arguments, autocast, grouped, started

# Pairs of a batch, and views that are there for the teacher's sake alone.
PAIRS, ALONE = 88, 80
# The first part of the time goes to smaller pictures, of which there are twice as many a second.
SMALL, SMALL_SHARE = 96, 0.55
RATE, DECAY = 1e-3, 0.02
# How many of the teacher's nearest photos a neighbour is drawn from.
NEIGHBOURS = 12


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=150)
    parser.add_argument("--init", type=Path, help="an exported model to go on from")
    parser.add_argument("--views", type=int, default=120_000, help="how many the teacher sees")
    parser.add_argument("--procedural", type=int, default=2000)
    return started(parser)


def main() -> None:
    given = arguments()
    kept_back = files_to_test_on(read_captions(given.captions))
    photos = load_photos(given.data, without=kept_back)
    names, pixels = with_procedural(*photos, given.procedural)
    print(f"{len(names)} pictures", flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(given, torch.from_numpy(pixels), device)
    trainer.run()
    trainer.finish()


class Trainer:
    """What is trained, on what, and a step of it."""

    def __init__(self, given: argparse.Namespace, photos: Tensor, device: str) -> None:
        self.given, self.photos, self.device = given, photos, device
        self.augmenter = Augmenter(given.seed)
        self.network = Network().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        teacher = Teacher(given.out)
        lesson = seen(teacher, self.augmenter, photos)
        self.neighbours = nearest(functional.normalize(lesson.pooled - lesson.pooled.mean(0)))
        self.taught = Taught(
            given.out / "taught", photos, lesson.logits, teacher, views=given.views, seed=given.seed
        )
        sample, lesson = self.taught[torch.arange(512)]
        self.lessons = Lessons(lesson)
        checkpoint = given.out / "checkpoint.pt"
        if given.init and not checkpoint.exists():
            load_onnx(self.network, given.init, self.augmenter.mild(sample))
        self.network.to(device)
        self.lessons.to(device)
        parameters = [*self.network.parameters(), *self.lessons.parameters()]
        self.optimizer = torch.optim.AdamW(
            grouped(parameters, decay=DECAY), lr=RATE, betas=(0.9, 0.99)
        )
        parts = {"network": self.network, "lessons": self.lessons}
        self.loop = Loop(checkpoint, parts, [self.optimizer], minutes=given.minutes)

    def run(self) -> None:
        self.network.train()
        self.loop.run(self._train_step)

    def finish(self) -> None:
        """Train the last layer once more, for copies, and write what is to be exported."""
        views = features(self.network, self.photos, self._views)
        train_head(self.network.head, views)
        turn(self.network.head, views[0].float())
        torch.save({"network": self.network.state_dict()}, self.given.out / "network.pt")

    def _views(self, owners: Tensor) -> list[Tensor]:
        """Return two mild and three strong views of photos."""
        x, augmenter = self._batch(owners), self.augmenter
        pixels, _ = self.taught[self.taught.of_photos(owners)]
        mild = [augmenter.plain(x), augmenter.mild(pixels)]
        strong = [augmenter.strong(x) for _ in range(3)]
        return [view.to(self.device) for view in mild + strong]

    def _train_step(self) -> dict[str, float]:
        owners = self._owners()
        paired = self.taught.of_photos(owners)
        others = torch.randint(len(self.taught.owners), (ALONE,))
        pixels, lesson = self.taught[torch.cat([paired, others])]
        views = torch.cat([self.augmenter.mild(pixels), self.augmenter.strong(self._batch(owners))])
        if self.loop.progress < SMALL_SHARE:
            views = functional.interpolate(views, SMALL, mode="bilinear", antialias=True)
        views = views.to(self.device, memory_format=torch.channels_last)
        with autocast(self.device):
            maps = self.network.maps(views)
            raw = self.network.head(self.network.pooling(maps[-1])).float()
        count = len(pixels)
        learned = self.lessons([part[:count] for part in maps], raw[:count], lesson)
        vectors = functional.normalize(raw).cpu()
        a, b = vectors[: len(owners)], vectors[count:]
        copies = copies_loss(a, b)
        loss = copies + sum(learned.values())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        return {
            "copies": copies.item(),
            **{name: value.item() for name, value in learned.items()},
            "similarity of copies": (a * b).sum(1).mean().item(),
        }

    def _owners(self) -> Tensor:
        """Draw a batch: half at random, half from the neighbours of those, the hard negatives."""
        anchors = torch.randperm(len(self.photos))[: PAIRS // 2]
        which = torch.randint(NEIGHBOURS, (len(anchors), 1))
        drawn = torch.cat([anchors, self.neighbours[anchors].gather(1, which).squeeze(1)]).unique()
        fill = torch.randperm(len(self.photos))
        fill = fill[~torch.isin(fill, drawn)][: PAIRS - len(drawn)]
        owners = torch.cat([drawn, fill])
        return owners[torch.randperm(len(owners))]

    def _batch(self, owners: Tensor) -> Tensor:
        return as_pixels(self.photos[owners])


def nearest(features: Tensor) -> Tensor:
    """Return the places of each picture's nearest others by the teacher, (n, 12).

    The very nearest is left out, for it is too often the same thing photographed twice.
    """
    parts = [
        (part @ features.T).topk(NEIGHBOURS + 2, dim=1).indices[:, 2:]
        for part in features.split(512)
    ]
    return torch.cat(parts)


if __name__ == "__main__":
    main()
