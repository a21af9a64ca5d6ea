"""What LlamaIndex stores beside a vector: the metadata of its node."""

import json
from typing import Any

from app.store.images import Entry


def node_metadata(entry: Entry, *, sha256: str) -> dict[str, Any]:
    """Return the metadata that LlamaIndex stores with an image's vector.

    It equals what `node_to_metadata_dict` (llama_index.core.vector_stores.utils) returns for the
    `ImageDocument` of `llama_index.image_node`, but needs no import of LlamaIndex; a test compares
    the two.
    """
    metadata: dict[str, Any] = {"url": entry.url, "sha256": sha256}
    if entry.title:
        metadata["title"] = entry.title
    if entry.description:
        metadata["description"] = entry.description
    if entry.tags:
        metadata["tags"] = list(entry.tags)
    node = {"id_": str(entry.id), "embedding": None, "metadata": metadata, **_NODE}
    return {
        **metadata,
        "_node_content": json.dumps(node, ensure_ascii=False),
        "_node_type": "ImageDocument",
        **dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), "None"),
    }


_NODE: dict[str, Any] = {
    "excluded_embed_metadata_keys": [],
    "excluded_llm_metadata_keys": [],
    "relationships": {},
    "metadata_template": "{key}: {value}",
    "metadata_separator": "\n",
    "image_resource": None,
    "audio_resource": None,
    "video_resource": None,
    "text_template": "{metadata_str}\n\n{content}",
    "class_name": "ImageDocument",
    "text": "",
}
