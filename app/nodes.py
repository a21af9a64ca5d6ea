"""What goes into the vector store: a vector with what it is of, and LlamaIndex's node of it."""

from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import ImageDocument

from app.catalog import Entry
from app.encoder import Vector
from app.filters import Described


@dataclass(frozen=True, slots=True)
class NewVector:
    """A vector as it goes into the store, with what it is of; the entry says everything."""

    entry: Entry
    picture: Described
    sha256: str
    vector: Vector


def image_node(entry: Entry, *, sha256: str, vector: Vector) -> ImageDocument:
    """Return what the store keeps of a picture: its address, what is said of it, and its vector."""
    metadata: dict[str, Any] = {"url": entry.url, "sha256": sha256}
    if entry.title:
        metadata["title"] = entry.title
    if entry.description:
        metadata["description"] = entry.description
    if entry.tags:
        metadata["tags"] = list(entry.tags)
    # Never as `image_url`: ImageDocument's constructor would fetch it.
    return ImageDocument(id_=str(entry.id), metadata=metadata, embedding=vector.tolist())
