"""What verification sees of the images in the index."""

from collections.abc import Mapping
from uuid import UUID

from app.indexing.keypoint_maker import keypoints_of
from app.pictures.decoding import Facts
from app.pictures.keypoints import Keypoints
from app.pictures.views import View
from app.store.images import ImageRow
from app.store.keypoints import Stored


class StoredViews:
    """Makes views of images from what is stored of them, each once; to be used in one thread.

    `made` are the keypoints that had to be made for that, which are worth keeping.
    """

    def __init__(self, stored: Mapping[UUID, Stored]) -> None:
        self._stored = stored
        self._views: dict[UUID, View | None] = {}
        self.made: dict[UUID, bytes] = {}

    def of(self, image: ImageRow) -> View | None:
        """Return the view of an image; None if it is gone or its thumbnail could not be read."""
        if image.id not in self._views:
            self._views[image.id] = self._view(image)
        return self._views[image.id]

    def _view(self, image: ImageRow) -> View | None:
        stored = self._stored.get(image.id)
        if stored is None:
            return None
        data = stored.keypoints
        if data is None:
            data = self.made[image.id] = keypoints_of(stored.thumbnail)
        return view_of(image, stored.thumbnail, data)


def view_of(image: Facts | ImageRow, thumbnail: bytes, data: bytes) -> View | None:
    """Return what verification sees of an image; None if its thumbnail could not be read.

    `data` are the keypoints as they are stored.
    """
    keypoints = Keypoints.from_bytes(data)
    if keypoints is None:
        return None
    return View(image.width, image.height, keypoints, thumbnail, image.dhash, image.too_plain)
