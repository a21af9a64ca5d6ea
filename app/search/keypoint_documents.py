"""Keypoints as JSON."""

import base64

from pydantic import BaseModel, Field

from app.pictures.keypoints import Keypoints
from app.store.images import ImageRow


class KeypointsDocument(BaseModel):
    """Places of an image that can be found again in altered copies of it, strongest first."""

    width: int = Field(description="The size in pixels at which they were found: the width,")
    height: int = Field(description="and the height.")
    places: list[tuple[float, float]] = Field(description="x and y in these pixels.")
    sizes: list[float] = Field(description="Diameters in these pixels.")
    angles: list[float] = Field(description="In degrees, clockwise, 0 to 360.")
    descriptors: str = Field(
        description="Base64 of 24 bytes each: 48 levels of 4 bits, the first in the high ones. "
        "Level - 7.5, scaled to unit length, is a coefficient."
    )


def keypoints_document(image: ImageRow) -> KeypointsDocument | None:
    """Return the JSON document of the keypoints that were read beside an image.

    None if they are still to be made.
    """
    stored = image.beside.keypoints if image.beside else None
    keypoints = None if stored is None else Keypoints.from_bytes(stored)
    if keypoints is None:
        return None
    places: list[list[float]] = keypoints.places.tolist()
    return KeypointsDocument(
        width=keypoints.width,
        height=keypoints.height,
        places=[(round(x, 2), round(y, 2)) for x, y in places],
        sizes=[round(float(size), 2) for size in keypoints.sizes],
        angles=[round(float(angle) * 57.29578 % 360, 1) for angle in keypoints.angles],
        descriptors=base64.b64encode(keypoints.packed_descriptors()).decode(),
    )
