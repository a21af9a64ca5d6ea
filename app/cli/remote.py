"""A search by the running server of the same data, which has everything loaded already."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from app.problems import InvalidRequest
from app.search.documents import HitDocument
from app.search.requests import SearchRequest
from app.settings import Settings
from app.store.server_file import running_server
from lookalike import Client, NoAnswer, Problem, calls

# What a search by the server may take beside its own limit.
TIMEOUT_S = 60.0
# With these, the server says something of itself and not of the query, so the search is done here.
_OF_THE_SERVER = frozenset({401, 403, 408, 429})


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: hits, best first, the `closest` image if there are none, and notes.

    `lowest` is the similarity that hits have at the least, unless they are proved; None for any.
    """

    hits: Sequence[HitDocument]
    closest: HitDocument | None = None
    notes: Sequence[str] = ()
    thumbnails: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes])
    lowest: float | None = None

    @property
    def is_found(self) -> bool:
        """Whether there is more than what always is: the images nearest to one, however far."""
        return any(self.lowest is not None or hit.match != "similar" for hit in self.hits)


def search_by_server(
    settings: Settings,
    expression: str,
    files: Sequence[Path],
    wanted: SearchRequest,
    *,
    limit: int,
    thumbnails: bool,
) -> Found | None:
    """Search by the running server; return None if there is none, or it does not take the query.

    `files` are those that the expression names: it must be one of them, or name none. Raises
    `InvalidRequest` for what is wrong with the query.
    """
    alone = not files or expression.strip() == str(files[0])
    server = running_server(settings) if alone and limit <= settings.top_k else None
    if server is None:
        return None
    options = _options(wanted, limit)
    if not files and expression.strip():
        options["text"] = expression
    try:
        with Client(server.url, key=server.secret, timeout_s=TIMEOUT_S) as client:
            return _search(client, files[0] if files else None, options, thumbnails=thumbnails)
    except NoAnswer:
        return None
    except Problem as problem:
        if problem.status in _OF_THE_SERVER or problem.status >= 500:
            return None
        raise InvalidRequest(problem.detail) from problem


def _search(
    client: Client, file: Path | None, options: dict[str, Any], *, thumbnails: bool
) -> Found:
    document = client.send(calls.as_json(calls.search(file, options)))
    hits = _hits(document)
    if not hits and document["min_similarity"] is not None and "match" not in options:
        lower = {**options, "min_similarity": -1.0, "limit": 1}
        [closest] = _hits(client.send(calls.as_json(calls.search(file, lower)))) or [None]
        return Found(hits, closest, document["notes"], lowest=document["min_similarity"])
    pictures = {hit.id: client.thumbnail(hit.id) for hit in hits} if thumbnails else {}
    return Found(hits, None, document["notes"], pictures, lowest=document["min_similarity"])


def _hits(document: dict[str, Any]) -> list[HitDocument]:
    return [HitDocument.model_validate(hit) for hit in document["results"]]


def _options(wanted: SearchRequest, limit: int) -> dict[str, Any]:
    options = wanted.model_dump(exclude_unset=True)
    if options.get("crop"):
        options["crop"] = tuple(options["crop"].values())
    return {**options, "limit": limit}
