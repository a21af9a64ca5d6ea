"""Regions of images as requests give them."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from app.indexing.requests import RequestModel
from app.pictures.decoding import Crop

Fraction = Annotated[float, Field(ge=0, le=1)]


class CropRequest(RequestModel):
    """A region of an image, in fractions of its width and height."""

    x: Fraction
    y: Fraction
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)


def read_crop(value: object) -> object:
    """Accept `x,y,width,height`, as in forms and URLs."""
    if isinstance(value, str):
        names, parts = ("x", "y", "width", "height"), value.split(",")
        if len(parts) != len(names):
            raise ValueError("must be x,y,width,height")
        return dict(zip(names, parts, strict=True))
    return value


CropField = Annotated[CropRequest | None, BeforeValidator(read_crop)]


def crop_of(crop: CropRequest | None) -> Crop | None:
    """Return a request's region for the decoder."""
    return None if crop is None else Crop(crop.x, crop.y, crop.width, crop.height)
