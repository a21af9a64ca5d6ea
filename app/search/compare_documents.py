"""What was found out about two images, as JSON for the API and the command line."""

from pydantic import BaseModel, Field

from app.search.comparer import ComparedImage, Verdict
from app.search.documents import AlignmentDocument, alignment_document
from app.search.hits import Match


class ComparedDocument(BaseModel):
    """One of two images that were compared, upright and at full size."""

    width: int
    height: int
    sha256: str = Field(description="That of the file.")
    too_plain: bool = Field(
        description="Whether it is too plain for anything but its bytes to prove a match."
    )


class VerdictDocument(BaseModel):
    """What is known of two images."""

    match: Match = Field(
        description="`exact`: the same bytes; `copy`: the same image, altered, proved by its "
        "geometry and its pixels; `scene`: the same place or thing in another image, proved by "
        "geometry; `similar`: neither was proved."
    )
    similarity: float = Field(description="Cosine similarity, -1 to 1.")
    copy_similarity: float | None = Field(
        description="That of the copy vectors; null where images have one vector."
    )
    too_plain: bool = Field(
        description="Whether one of them is too plain for anything but its bytes to prove a match."
    )
    alignment: AlignmentDocument | None = Field(
        description="How `a`, the query, lies on `b`, the image; null if nothing was proved."
    )
    a: ComparedDocument
    b: ComparedDocument
    encoder: str


def verdict_document(verdict: Verdict, *, encoder: str) -> VerdictDocument:
    """Return what was found out as a JSON document."""
    return VerdictDocument(
        match=verdict.match,
        similarity=round(verdict.similarity, 4),
        copy_similarity=verdict.copy_similarity and round(verdict.copy_similarity, 4),
        too_plain=verdict.too_plain,
        alignment=verdict.alignment and alignment_document(verdict.alignment),
        a=_compared(verdict.a),
        b=_compared(verdict.b),
        encoder=encoder,
    )


def _compared(image: ComparedImage) -> ComparedDocument:
    return ComparedDocument(
        width=image.width, height=image.height, sha256=image.sha256, too_plain=image.too_plain
    )
