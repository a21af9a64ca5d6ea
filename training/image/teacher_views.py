"""Views of photos and what the teacher sees in them: made once, kept on disk.

A teacher that looks at every view anew would take as long as the training itself. Photos of what is
rare among them get more views.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.augment import Augmenter, as_pixels, pixels_of_inputs
from training.image.teacher import Lesson, Teacher, without_maps

# Every photo has at least this many, whatever it shows.
LEAST_VIEWS = 2
BATCH = 128


class Belongings:
    """Draws one, at random, of what each photo has: views, or captions.

    `owners` are the photos, in 0..`photos`, that they belong to.
    """

    def __init__(self, owners: Tensor, photos: int) -> None:
        order = torch.argsort(owners, stable=True)
        self._by_owner = order.split(torch.bincount(owners, minlength=photos).tolist())

    def __call__(self, photos: Tensor) -> Tensor:
        """Return the place of one of each photo's."""
        belongings = (self._by_owner[photo] for photo in photos.tolist())
        return torch.stack([own[torch.randint(len(own), ())] for own in belongings])


class Taught:
    """Views as bytes (n, 3, 128, 128), whose photo each shows, and the lesson of each."""

    def __init__(
        self,
        folder: Path,
        photos: Tensor,
        logits: Tensor,
        teacher: Teacher,
        *,
        views: int,
        seed: int,
    ) -> None:
        self._folder = folder
        # Written last.
        if not (self._folder / "owners.npy").exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            owners = owners_of_views(logits, views)
            self._make(owners, photos, teacher, Augmenter(seed))
        self.owners = torch.from_numpy(np.load(self._folder / "owners.npy"))
        self._views, *self._lessons = (
            np.load(self._folder / f"{name}.npy", mmap_mode="r")
            for name in ("views", *Lesson._fields)
        )
        self.of_photos = Belongings(self.owners, len(photos))

    def __getitem__(self, places: Tensor) -> tuple[Tensor, Lesson]:
        """Return pixels in 0..1 and lessons; all mirrored, or none."""
        rows = places.numpy()
        pixels = torch.from_numpy(self._views[rows]).float() / 255
        lesson = Lesson(*(torch.from_numpy(column[rows]).float() for column in self._lessons))
        if torch.rand(()) < 0.5:
            maps = {"middle": lesson.middle.flip(3), "last": lesson.last.flip(3)}
            return pixels.flip(3), lesson._replace(**maps)
        return pixels, lesson

    def whole(self, places: Tensor) -> Lesson:
        """Return what the teacher sees in the whole of those views; no maps."""
        *_, pooled, logits = self._lessons
        rows = places.numpy()
        return without_maps(*(torch.from_numpy(part[rows]).float() for part in (pooled, logits)))

    def _make(self, owners: Tensor, photos: Tensor, teacher: Teacher, augmenter: Augmenter) -> None:
        files: dict[str, NDArray[Any]] = {}
        for first in range(0, len(owners), BATCH):
            part = owners[first : first + BATCH]
            x = augmenter.scene(as_pixels(photos[part]))
            arrays = {
                "views": (pixels_of_inputs(x) * 255).round().byte().numpy(),
                **{name: value.half().numpy() for name, value in teacher(x)._asdict().items()},
            }
            for name, array in arrays.items():
                if name not in files:
                    files[name] = np.lib.format.open_memmap(
                        self._folder / f"{name}.npy",
                        "w+",
                        array.dtype,
                        (len(owners), *array.shape[1:]),
                    )
                files[name][first : first + len(part)] = array
            if first % (100 * BATCH) == 0:
                print(json.dumps({"views taught": first, "of": len(owners)}), flush=True)
        for file in files.values():
            file.flush()
        np.save(self._folder / "owners.npy", owners.numpy())


def owners_of_views(logits: Tensor, views: int) -> Tensor:
    """Return which photo each view shows: the rarer its class, the more views a photo has."""
    classes = logits.argmax(1)
    rarity = torch.bincount(classes)[classes].float().rsqrt()
    every = torch.arange(len(logits)).repeat(LEAST_VIEWS)
    more = torch.multinomial(rarity, views - len(every), replacement=True)
    owners = torch.cat([every, more])
    return owners[torch.randperm(len(owners))]
