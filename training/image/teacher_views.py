"""Views of the photos with the teacher's output for each: computed once and kept on disk.

Running the teacher on new views in every step would take as long as the training itself. Photos of
rare classes get more views.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.augment import Augmenter
from training.data.inputs import as_pixels, pixels_of_inputs
from training.image.teacher import Teacher, TeacherOutput

# Every photo gets at least this many.
LEAST_VIEWS = 2
BATCH = 128


class OwnedDraw:
    """Draws, for each photo, one of its views at random.

    `owners` holds each view's photo, in 0..`photos`.
    """

    def __init__(self, owners: Tensor, photos: int) -> None:
        order = torch.argsort(owners, stable=True)
        self._by_owner = order.split(torch.bincount(owners, minlength=photos).tolist())

    def __call__(self, photos: Tensor) -> Tensor:
        """Return the index of one view of each photo."""
        owned = (self._by_owner[photo] for photo in photos.tolist())
        return torch.stack([own[torch.randint(len(own), ())] for own in owned])


class TeacherViews:
    """Views as bytes, (n, 3, 128, 128), the photo each shows, and the teacher's output for each.

    They are read from `folder`, and made first if it lacks them. `logits` are those of the whole
    photos.
    """

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
        # Written last, so that it is there only when all is.
        if not (self._folder / "owners.npy").exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            owners = owners_of_views(logits, views)
            self._make(owners, photos, teacher, Augmenter(seed))
        self.owners = torch.from_numpy(np.load(self._folder / "owners.npy"))
        self._views, *self._outputs = (
            np.load(self._folder / f"{name}.npy", mmap_mode="r")
            for name in ("views", *TeacherOutput._fields)
        )
        self.of_photos = OwnedDraw(self.owners, len(photos))

    def __getitem__(self, places: Tensor) -> tuple[Tensor, TeacherOutput]:
        """Return pixels in 0..1 and outputs; at random, all are mirrored or none."""
        rows = places.numpy()
        pixels = torch.from_numpy(self._views[rows]).float() / 255
        columns = (torch.from_numpy(column[rows]).float() for column in self._outputs)
        output = TeacherOutput(*columns)
        if torch.rand(()) < 0.5:
            maps = {"middle": output.middle.flip(3), "last": output.last.flip(3)}
            return pixels.flip(3), output._replace(**maps)
        return pixels, output

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
                print(
                    json.dumps({"views shown to the teacher": first, "of": len(owners)}), flush=True
                )
        for file in files.values():
            file.flush()
        np.save(self._folder / "owners.npy", owners.numpy())


def owners_of_views(logits: Tensor, views: int) -> Tensor:
    """Return the photo that each view shows: the rarer a photo's class, the more views it gets."""
    classes = logits.argmax(1)
    rarity = torch.bincount(classes)[classes].float().rsqrt()
    every = torch.arange(len(logits)).repeat(LEAST_VIEWS)
    more = torch.multinomial(rarity, views - len(every), replacement=True)
    owners = torch.cat([every, more])
    return owners[torch.randperm(len(owners))]
