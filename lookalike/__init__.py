"""A client of Lookalike servers; it needs httpx and nothing else.

    from lookalike import Client

    with Client("http://localhost:8000") as client:
        for hit in client.search("photo.jpg").hits:
            print(hit.similarity, hit.match, hit.url)

`AsyncClient` has the same methods, to be awaited. docs/client.md has more examples.
"""

from lookalike.calls import File, Filters, ImageEntry, SearchOptions
from lookalike.client import AsyncClient, Client
from lookalike.models import (
    Alignment,
    Face,
    FaceMatch,
    Hit,
    Image,
    Job,
    JobItem,
    Outcome,
    Person,
    PersonFace,
    Results,
)
from lookalike.problems import NoAnswer, Problem

__all__ = [
    "Alignment",
    "AsyncClient",
    "Client",
    "Face",
    "FaceMatch",
    "File",
    "Filters",
    "Hit",
    "Image",
    "ImageEntry",
    "Job",
    "JobItem",
    "NoAnswer",
    "Outcome",
    "Person",
    "PersonFace",
    "Problem",
    "Results",
    "SearchOptions",
]
