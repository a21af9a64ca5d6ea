"""The command `search`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

import click

from app.cli.terminal import say, show_json
from app.indexing.requests import parse
from app.lookalike import open_lookalike
from app.pictures.decoding import SUFFIXES
from app.problems import InvalidRequest
from app.search.documents import hit_document
from app.search.explained import differences_of
from app.search.hits import Hit
from app.search.pages import Results
from app.search.query import Term, read_terms
from app.search.requests import FilterRequest, SearchRequest, query_of, with_crop
from app.settings import read_settings

VERIFY_MS = 3000


def filter_options() -> list[click.Parameter]:
    """Return an option for every filter; those with several values may be repeated."""
    options: list[click.Parameter] = []
    for name, field in FilterRequest.model_fields.items():
        flag, text = f"--{name.replace('_', '-')}", field.description or ""
        if field.annotation == bool | None:
            options.append(click.Option([flag], type=bool, help=text))
        else:
            several = get_origin(field.annotation) in (list, dict)
            options.append(click.Option([flag], multiple=several, help=text))
    return options


async def search(expression: str, options: Mapping[str, Any], *, limit: int, as_json: bool) -> bool:
    """Print the hits of an expression; return whether there are any.

    `options` are fields of `SearchRequest`, unvalidated; `crop` applies to every image of the
    expression. Files that the expression names are read here. Raises `click.UsageError`.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    region = {"crop": given.pop("crop", None)}
    try:
        wanted, crop = parse(SearchRequest, given), parse(SearchRequest, region).crop
    except InvalidRequest as problem:
        raise click.UsageError(problem.detail) from problem
    terms = with_crop([_with_file(term) for term in read_terms(expression)], crop)
    settings = read_settings()
    if settings.verify_ms:
        # No one else waits, and the keypoints of a new index may have to be made first.
        longest = max(settings.verify_ms, VERIFY_MS)
        settings = settings.model_copy(update={"verify_ms": longest})
    async with open_lookalike(settings, announce=say) as lookalike:
        query = query_of(wanted, None, limit=limit)
        results = await lookalike.searcher.search(replace(query, terms=terms))
    if as_json:
        hits = [hit_document(hit, hit.image.url) for hit in results.hits]
        show_json([hit.model_dump(mode="json") for hit in hits])
    else:
        _show(results)
    return bool(results.hits)


def _with_file(term: Term) -> Term:
    """Return a term with the bytes of the file it names; other terms as they are."""
    if term.text is None or term.quoted:
        return term
    path = Path(term.text)
    if _is_file(path):
        return replace(term, text=None, data=path.read_bytes())
    if path.suffix.lower() in SUFFIXES:
        raise click.UsageError(f"There is no file {path}.")
    return term


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A text may be longer than a file's name can be.
        return False


def _show(results: Results) -> None:
    """Print the notes and the hits, best first, or else the closest image."""
    for note in results.notes:
        say(note)
    if not results.hits:
        closest = results.below[0] if results.below else None
        if closest is None:
            say("No images were found.")
        else:
            similarity, url = _similarity(closest), closest.image.url
            say(f"No image is similar enough. The closest, at {similarity}: {url}")
        return
    for hit in results.hits:
        image, match = hit.image, hit.match or ""
        size = f"{image.width} x {image.height}"
        differences = "; ".join(differences_of(hit))
        about = f"({differences})  " if differences else ""
        # The URL stays last: scripts cut it off there.
        click.echo(f"{_similarity(hit)}  {match:7}  {size:>13}  {about}{image.url}")


def _similarity(hit: Hit) -> str:
    return "words" if hit.similarity is None else f"{hit.similarity:.3f}"
