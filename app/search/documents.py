"""Hits as JSON, for the API and the command line."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from app.indexing.documents import (
    DHASH,
    ColourDocument,
    ImageDocument,
    LocationDocument,
    colour_fields,
    exif_fields,
    hash_fields,
    image_fields,
)
from app.indexing.face_documents import (
    FaceBoxDocument,
    FaceDocument,
    box_document,
    face_documents,
)
from app.search.hits import Hit, Match
from app.search.keypoint_documents import KeypointsDocument, keypoints_document
from app.search.verification import Alignment
from app.store.beside import Beside
from app.store.faces import read_faces
from app.store.images import ImageRow

Row: TypeAlias = tuple[float, float, float]


class RegionDocument(BaseModel):
    """A region of an image, in fractions of its width and height."""

    x: float
    y: float
    width: float
    height: float


class PlaceDocument(BaseModel):
    """Another image with the same bytes."""

    id: UUID
    url: str = Field(description="The URL under which it is indexed.")


class FaceMatchDocument(BaseModel):
    """The face of a result that is most similar to the one searched by."""

    order: int = Field(description="Its place from the left, from 0 on.")
    box: FaceBoxDocument
    similarity: float = Field(description="The cosine of the vectors of the two faces.")


class AlignmentDocument(BaseModel):
    """How the query image lies on a result, both upright and at full size."""

    query_overlap: float = Field(description="The share of the query that the image shows, 0 to 1.")
    image_overlap: float = Field(description="The share of the image that the query shows, 0 to 1.")
    matrix: tuple[Row, Row] = Field(
        description="((a, b, c), (d, e, f)): the query's pixel x, y is the image's pixel "
        "a x + b y + c, d x + e y + f."
    )
    inliers: int = Field(description="The distinct places that prove it.")
    mirrored: bool = Field(description="Whether the query has to be mirrored, left to right.")
    rotation: float = Field(
        description="The degrees, clockwise, -180 to 180, by which the query then has to be turned."
    )
    scale: float = Field(description="How many times it then has to be enlarged.")
    edited: bool = Field(description="Whether parts of it have other pixels: a caption, an inset.")
    differences: list[RegionDocument] = Field(
        description="These parts, as regions of the query in fractions of its width and height."
    )


Include = Literal["exif", "hashes", "colours", "metadata", "faces", "keypoints"]
"""What results have when a request asks for it."""
BESIDE: tuple[Beside, ...] = ("faces", "keypoints")
"""Of it, what is read beside the rows of images."""

_FIELDS: Mapping[Include, Callable[[ImageRow], dict[str, Any]]] = {
    "exif": exif_fields,
    "hashes": hash_fields,
    "colours": colour_fields,
    "metadata": lambda _: {},
    "faces": lambda image: {"faces": face_documents(read_faces(image))},
    "keypoints": lambda image: {"keypoints": keypoints_document(image)},
}
_INCLUDED = frozenset(
    {"exif", "taken_at", "camera", "location", "sha256", "dhash", "colours", "faces", "face"}
    | {"keypoints"},
)


class HitDocument(ImageDocument):
    """A search result."""

    similarity: float | None = Field(
        description="Cosine similarity, -1 to 1; null for a search by words or filters only, and "
        "for an image that is not embedded. Results are ranked by it, behind what is proved."
    )
    copy_similarity: float | None = Field(
        None,
        description="That of the copy vectors, in which the same image is at 0.90 or more; null "
        "unless the query is one whole image and images have two vectors.",
    )
    matched: list[Literal["picture", "text"]] = Field(
        ["picture"], description="What found it: its pixels, the words about it, or both."
    )
    match: Match | None = Field(
        description="`exact`: the same bytes; `copy`: the same image, altered, proved by its "
        "geometry and its pixels; `scene`: the same place or thing in another image, proved by "
        "geometry; `similar`: neither was proved. Null unless the query is one whole image, and "
        "for the first image of a group."
    )
    alignment: AlignmentDocument | None = Field(
        None, description="How the query lies on a `copy` or a `scene`."
    )
    places: list[PlaceDocument] = Field(
        description="Other images with the same bytes; none in a list of what passes filters."
    )
    # Only in answers to requests that ask for them by `include`.
    exif: dict[str, str | int | float] | None = None
    taken_at: datetime | None = None
    camera: str | None = None
    location: LocationDocument | None = None
    sha256: str | None = None
    dhash: str | None = Field(None, description=DHASH)
    colours: list[ColourDocument] | None = None
    faces: list[FaceDocument] | None = None
    keypoints: KeypointsDocument | None = None
    face: FaceMatchDocument | None = Field(
        None, description="The face that is most similar to the one searched by, in such a search."
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_included(
        self, serialized: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        absent = _INCLUDED - self.model_fields_set
        return {name: value for name, value in serialized(self).items() if name not in absent}


def hit_document(
    hit: Hit,
    url: str,
    *,
    include: Collection[Include] = (),
) -> HitDocument:
    """Return the JSON document of a hit; `url` is where the client finds the original."""
    included: dict[str, Any] = {}
    for name in include:
        included |= _FIELDS[name](hit.image)
    if hit.face is not None:
        included["face"] = FaceMatchDocument(
            order=hit.face.order,
            box=box_document(hit.face.box),
            similarity=round(hit.face.similarity, 4),
        )
    return HitDocument(
        **included,
        **image_fields(hit.image, url),
        similarity=None if hit.similarity is None else round(hit.similarity, 4),
        copy_similarity=None if hit.copy_similarity is None else round(hit.copy_similarity, 4),
        match=hit.match,
        alignment=hit.alignment and alignment_document(hit.alignment),
        matched=list(hit.matched),
        places=[PlaceDocument(id=image.id, url=image.url) for image in hit.places],
    )


def alignment_document(alignment: Alignment) -> AlignmentDocument:
    """Return the JSON document of an alignment."""
    (a, b, c), (d, e, f) = alignment.matrix
    return AlignmentDocument(
        query_overlap=round(alignment.query_overlap, 4),
        image_overlap=round(alignment.image_overlap, 4),
        matrix=(
            (round(a, 6), round(b, 6), round(c, 2)),
            (round(d, 6), round(e, 6), round(f, 2)),
        ),
        inliers=alignment.inliers,
        mirrored=alignment.mirrored,
        rotation=round(alignment.rotation, 2),
        scale=round(alignment.scale, 4),
        edited=alignment.edited,
        differences=[
            RegionDocument(
                x=round(region.x, 4),
                y=round(region.y, 4),
                width=round(region.width, 4),
                height=round(region.height, 4),
            )
            for region in alignment.differences
        ],
    )
