"""What is kept of images beside their rows, read with the rows, in the same statement."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row, func, literal_column, select
from sqlalchemy.sql.elements import ColumnElement

from app.pictures.keypoints import VERSION
from app.store.tables import FACES, IMAGES, KEYPOINTS

Beside: TypeAlias = Literal["faces", "keypoints"]

_FACE = [column for column in FACES.c if column.name not in ("image_id", "vector")]


@dataclass(frozen=True, slots=True)
class KeptBeside:
    """The faces of an image as JSON, from left to right, and its keypoints, as they are stored.

    None for what was not asked for, and for keypoints that are still to be made.
    """

    faces: Sequence[Mapping[str, Any]] | None = None
    keypoints: bytes | None = None


def columns(beside: Collection[Beside]) -> list[ColumnElement[Any]]:
    """Return columns, for a query of images, that have this."""
    wanted: list[ColumnElement[Any]] = []
    if "faces" in beside:
        fields: list[Any] = [part for c in _FACE for part in (literal_column(f"'{c.name}'"), c)]
        face = func.jsonb_build_object(*fields)
        faces = select(func.jsonb_agg(face)).where(FACES.c.image_id == IMAGES.c.id)
        wanted.append(faces.correlate(IMAGES).scalar_subquery().label("faces"))
    if "keypoints" in beside:
        made = select(KEYPOINTS.c.bytes).where(
            KEYPOINTS.c.image_id == IMAGES.c.id, KEYPOINTS.c.version == VERSION
        )
        wanted.append(made.correlate(IMAGES).scalar_subquery().label("keypoints"))
    return wanted


def kept_of(row: Row[Any], beside: Collection[Beside]) -> KeptBeside | None:
    """Return what a row of such a query has; None if nothing was asked for."""
    if not beside:
        return None
    faces: list[dict[str, Any]] | None = None
    if "faces" in beside:
        faces = sorted(row.faces or [], key=lambda face: face["order"])
    made = row.keypoints if "keypoints" in beside else None
    return KeptBeside(faces, None if made is None else bytes(made))
