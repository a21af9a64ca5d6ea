"""The command `duplicates`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import click

from app.cli.terminal import say, show_json, show_line
from app.lookalike import Lookalike, open_lookalike
from app.pictures.exif import taken_at
from app.search.explained import differences_of
from app.search.hits import Hit
from app.search.resolution import best_of
from app.settings import read_settings
from app.store.images import ImageRow

GROUPS_AT_ONCE = 100
# Of 64: whatever the difference hashes are, as crops and mirrored copies have others.
ANY_BITS = 64

_CHOICES: Mapping[str, Callable[[Sequence[ImageRow]], ImageRow]] = {
    "largest": best_of,
    "oldest": lambda images: min(images, key=lambda image: (image.indexed_at, image.id)),
}


async def resolve(
    *, min_similarity: float, keep: str, delete: bool, merge: bool, ask: bool, as_json: bool
) -> int:
    """Print the groups of duplicates, and the image to keep of each; return how many there are.

    With `delete`, the others go to the trash, if the person who is asked says so.
    """
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        # What an older version indexed has none, and no server may be there to make them.
        while await lookalike.keypoint_maker.make_hashes():
            pass
        groups = await _groups(lookalike, min_similarity)
        kept = [_CHOICES[keep]([hit.image for hit in group]) for group in groups]
        if not as_json:
            _show(groups, kept)
        others = sum(len(group) - 1 for group in groups)
        trashed = 0
        if others and delete and (not ask or _agreed(others)):
            for group, image in zip(groups, kept, strict=True):
                ids = [hit.image.id for hit in group]
                trashed += await lookalike.resolution.keep(image.id, ids, merge=merge)
    if as_json:
        show_json({"groups": _documents(groups, kept), "trashed": trashed})
    elif trashed:
        say(f"{trashed} moved to the trash; `lookalike trash restore` brings them back.")
    return len(groups)


async def _groups(lookalike: Lookalike, min_similarity: float) -> list[list[Hit]]:
    groups: list[list[Hit]] = []
    cursor: str | None = None
    while True:
        found = await lookalike.duplicates.find(
            cursor=cursor, limit=GROUPS_AT_ONCE, min_similarity=min_similarity, max_bits=ANY_BITS
        )
        groups += found.groups
        cursor = found.next
        if cursor is None:
            return groups


def _agreed(number: int) -> bool:
    return click.confirm(f"Move {number} to the trash?", err=True)


def _show(groups: Sequence[Sequence[Hit]], kept: Sequence[ImageRow]) -> None:
    for group, image in zip(groups, kept, strict=True):
        for hit in group:
            row = hit.image
            mark = "keep" if row.id == image.id else ""
            size = f"{row.width} x {row.height}"
            kilobytes = f"{row.bytes / 1000:,.0f} kB"
            match = hit.match or ""
            words = ", ".join(differences_of(hit, "the first"))
            show_line(
                f"{mark:4}  {match:5}  {size:>13}  {kilobytes:>10}  {row.indexed_at:%Y-%m-%d}  "
                f"{row.url}" + (f"  ({words})" if words else "")
            )
        show_line("")
    if not groups:
        say("No duplicates found.")


def _iso(time: datetime | None) -> str | None:
    return time and time.isoformat()


def _documents(
    groups: Sequence[Sequence[Hit]], kept: Sequence[ImageRow]
) -> list[dict[str, object]]:
    return [
        {
            "keep": str(image.id),
            "images": [
                {
                    "id": str(hit.image.id),
                    "url": hit.image.url,
                    "match": hit.match,
                    "width": hit.image.width,
                    "height": hit.image.height,
                    "bytes": hit.image.bytes,
                    "indexed_at": hit.image.indexed_at.isoformat(),
                    "taken_at": _iso(taken_at(hit.image.exif)),
                    "differences": differences_of(hit, "the first"),
                }
                for hit in group
            ],
        }
        for group, image in zip(groups, kept, strict=True)
    ]
