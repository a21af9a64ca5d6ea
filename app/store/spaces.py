"""The two vectors that an index has of each image: an encoder each, with its vector table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from app.encoding.encoder import Encoder, Pictured, Vector
from app.encoding.lite import LITE
from app.encoding.loading import Encoders
from app.store.database import Database
from app.store.index_kinds import Wanted, set_up_vectors
from app.store.milvus.client import Milvus
from app.store.vectors import VectorTable


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """An encoder and the table of its vectors; those of two spaces are never compared."""

    encoder: Encoder
    vectors: VectorTable

    @property
    def name(self) -> str:
        """The name of the encoder."""
        return self.encoder.model.name


SpaceKind = Literal["copy", "semantic"]

Embedded: TypeAlias = Mapping[Space, Vector]
"""The unit vectors of one image, by space."""


@dataclass(frozen=True, slots=True)
class Spaces:
    """The spaces of an index.

    In that of `copy`, what is near is the same image, however altered; in that of `semantic`, what
    shows the same. Where one encoder serves for both, they are one object.
    """

    copy: Space
    semantic: Space

    @property
    def are_one(self) -> bool:
        """Whether an image has one vector, which serves for both."""
        return self.copy is self.semantic

    def of(self, kind: "SpaceKind") -> Space:
        """Return one of the two."""
        return self.copy if kind == "copy" else self.semantic

    @property
    def calibrated(self) -> "SpaceKind":
        """The space in which a similarity of 0.90 means the same image.

        With a CLIP, it is that of its cosine, as clients expect; that of `lite` means little.
        """
        return "copy" if self.semantic.encoder.source == LITE else "semantic"

    @property
    def all(self) -> tuple[Space, ...]:
        """Both spaces, or the only one."""
        return (self.semantic,) if self.are_one else (self.copy, self.semantic)

    @property
    def side(self) -> int:
        """The short side, in pixels, of the larger input that is made of an image."""
        return max(space.encoder.model.side for space in self.all)


def open_spaces(
    database: Database,
    encoders: Encoders,
    *,
    wanted: Wanted = "auto",
    milvus: Milvus | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Spaces:
    """Return the spaces of encoders, their tables created or upgraded if need be.

    `wanted` is the kind of new indexes, and `milvus` where those of that kind are; `announce` is
    called with what is to be said of others.
    """

    def opened(encoder: Encoder) -> Space:
        vectors = open_vectors(database, encoder, wanted=wanted, milvus=milvus, announce=announce)
        return Space(encoder, vectors)

    semantic = opened(encoders.semantic)
    if encoders.are_one:
        return Spaces(semantic, semantic)
    return Spaces(opened(encoders.copy), semantic)


def open_vectors(
    database: Database,
    encoder: Encoder,
    *,
    wanted: Wanted = "auto",
    milvus: Milvus | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> VectorTable:
    """Return the encoder's vector table, created or upgraded if need be."""
    vectors = VectorTable.for_encoder(database, encoder, milvus=milvus)
    with database.set_up() as connection:
        set_up_vectors(connection, vectors, wanted, announce, name=encoder.model.name)
    return vectors


def prepare(spaces: Iterable[Space], picture: Pictured) -> dict[Space, Any]:
    """Return what the encoder of each space reads of a picture; to be used in threads."""
    return {space: space.encoder.prepare(picture) for space in spaces}


async def embed(prepared: Mapping[Space, Any]) -> dict[Space, Vector]:
    """Embed a prepared picture in each space; the encoders run side by side."""
    vectors = await asyncio.gather(
        *(space.encoder.embed_prepared(item) for space, item in prepared.items())
    )
    return dict(zip(prepared, vectors, strict=True))
