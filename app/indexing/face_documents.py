"""Faces as JSON."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from app.faces.face import Box
from app.store.faces import StoredFace


class FaceBoxDocument(BaseModel):
    """A rectangle of an upright image, in fractions of its width and height."""

    x: float
    y: float
    width: float
    height: float


class FaceDocument(BaseModel):
    """A face in an image; age and gender are guesses of a network, with known bias."""

    order: int = Field(description="Its place from the left, from 0 on.")
    box: FaceBoxDocument
    confidence: float = Field(description="The detector's, 0 to 1.")
    age: float | None = Field(description="A guess, in years; null unless FACES has attributes.")
    age_range: tuple[int, int] | None = Field(
        description="The years between which four fifths of the guess lie."
    )
    gender: Literal["female", "male"] | None = Field(description="A guess.")
    gender_confidence: float | None = Field(description="The network's, 0.5 to 1.")


def face_documents(faces: Sequence[StoredFace]) -> list[FaceDocument]:
    """Return the JSON documents of an image's faces, from left to right."""
    return [_document(stored) for stored in faces]


def box_document(box: Box) -> FaceBoxDocument:
    """Return the JSON document of a box."""
    return FaceBoxDocument(
        x=round(box.x, 4),
        y=round(box.y, 4),
        width=round(box.width, 4),
        height=round(box.height, 4),
    )


def _document(stored: StoredFace) -> FaceDocument:
    box, traits = stored.face.box, stored.face.traits
    return FaceDocument(
        order=stored.order,
        box=box_document(box),
        confidence=round(stored.face.confidence, 3),
        age=traits and round(traits.age, 1),
        age_range=traits and (traits.age_low, traits.age_high),
        gender=traits and traits.gender,
        gender_confidence=traits and round(traits.gender_confidence, 3),
    )
