"""An image's pixels and what is made of them to compare it: each once, at first use.

A query is compared with many images, so this is worth keeping beside its pixels.
"""

from typing import Literal, TypeAlias

from app.pictures.keypoints import Pixels
from app.pictures.opencv import opencv

Look: TypeAlias = Literal["colours", "grey", "brightest"]
"""The colours themselves, or one value for each pixel: its grey, or the brightest of its three."""


class Shown:
    """RGB pixels, (h, w, 3), and smaller and grey ones; threads may share it."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self._made: dict[tuple[Look, int], Pixels] = {}
        self._mirrored: Shown | None = None

    @property
    def size(self) -> tuple[int, int]:
        """The (width, height)."""
        height, width = self.pixels.shape[:2]
        return width, height

    def mirrored(self) -> "Shown":
        """Return the same, mirrored left to right."""
        if self._mirrored is None:
            self._mirrored = Shown(opencv().flip(self.pixels, 1))
        return self._mirrored

    def halved(self, look: Look, times: int) -> Pixels:
        """Return it reduced by half, `times` times: colours, (h, w, 3), or (h, w).

        A row or column that has no other is left out.
        """
        key = look, times
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(look, times)
        return found

    def _make(self, look: Look, times: int) -> Pixels:
        if times:
            return _half(self.halved(look, times - 1))
        cv2 = opencv()
        if look == "grey":
            return cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)
        if look == "brightest":
            red, green, blue = cv2.split(self.pixels)
            return cv2.max(cv2.max(red, green), blue)
        return self.pixels


def _half(pixels: Pixels) -> Pixels:
    cv2 = opencv()
    height, width = (max(1, edge // 2) for edge in pixels.shape[:2])
    # By whole factors, areas are averaged ten times as fast as by others.
    even = pixels[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
