"""Faces as pages show them: boxes over a large image, and squares cut out as covers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from app.faces.face import Box, Face
from app.problems import Problem
from app.store.faces import FaceId, StoredFace
from app.store.images import ImageRow
from app.web.clients import client_of
from app.web.requests import Request, parts
from app.web.shown import Shown

Known: TypeAlias = tuple[UUID, str]
"""A person and the name."""

# Of the larger side of a face's box: some of the hair and the neck is in the square.
MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class FacesShown:
    """The faces of an image, from left to right, and the people with their names, where known.

    A click searches by a face if it is `searchable`.
    """

    faces: Sequence[StoredFace] = ()
    people: Mapping[FaceId, Known] = field(default_factory=dict[FaceId, Known])
    searchable: bool = False


async def faces_shown(request: Request, image: ImageRow) -> FacesShown:
    """Return the faces that a page of an image may show; none without the scope `faces`."""
    if not image.face_count or not sees_faces(request):
        return FacesShown()
    lookalike = parts(request)
    found = await lookalike.faces.of([image.id])
    searchable = lookalike.face_searcher.is_on
    people = await lookalike.people.of_images([image.id]) if searchable else {}
    return FacesShown(found.get(image.id, ()), people, searchable)


async def faces_to_choose(request: Request, shown: Shown) -> Sequence[Face] | None:
    """Return the faces of the uploaded query image, from left to right, to search by one of them.

    None if the page does not ask for them, or cannot have them.
    """
    if shown.value("choose") != "face" or not sees_people(request):
        return None
    with suppress(Problem, ValueError):
        return await parts(request).face_searcher.faces_of_upload(UUID(shown.value("upload")))
    return None


def sees_faces(request: Request) -> bool:
    """Return whether the client may see faces, and the server looks for any."""
    is_on = parts(request).settings.faces != "off"
    return is_on and "faces" in client_of(request.scope).scopes


def sees_people(request: Request) -> bool:
    """Return whether there is a page of people, and the client may see it."""
    return parts(request).face_searcher.is_on and sees_faces(request)


def square_around(box: Box, width: int, height: int) -> tuple[float, float, float]:
    """Return x, y and side of a square around a face, in pixels of an image of this size."""
    side = min(MARGIN * max(box.width * width, box.height * height), width, height)
    x = (box.x + box.width / 2) * width - side / 2
    y = (box.y + box.height / 2) * height - side / 2
    return (
        round(min(max(0.0, x), width - side), 2),
        round(min(max(0.0, y), height - side), 2),
        round(side, 2),
    )
