"""The command `search`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin
from uuid import UUID

import click

from app.cli.remote import Found, search_by_server
from app.cli.terminal import say, show_json
from app.indexing.files import local_path
from app.indexing.requests import parse
from app.pictures.decoding import SUFFIXES
from app.pictures.terminal import Protocol, in_terminal
from app.problems import InvalidRequest
from app.search.documents import HitDocument, hit_document
from app.search.explained import differences_of, similarity_of
from app.search.face_requests import FaceQuery, FaceRequest, face_query_of
from app.search.query import Query, Term, read_terms
from app.search.requests import FilterRequest, SearchRequest, query_of, with_crop
from app.settings import Settings, read_settings

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


async def search(
    expression: str,
    options: Mapping[str, Any],
    *,
    limit: int,
    as_json: bool,
    thumbnails: Protocol | None = None,
    opens: bool = False,
) -> bool:
    """Print the hits of an expression; return whether it was found.

    `options` are fields of `SearchRequest`, unvalidated; `crop` applies to every image of the
    expression. Files that the expression names are read here, unless a running server does it all.
    `thumbnails` says how the terminal shows pictures; `opens` opens the first hit. Raises
    `click.UsageError`.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    region = {"crop": given.pop("crop", None)}
    try:
        wanted, crop = parse(SearchRequest, given), parse(SearchRequest, region).crop
    except InvalidRequest as problem:
        raise click.UsageError(problem.detail) from problem
    terms = read_terms(expression)
    files = [path for path in map(_file_of, terms) if path is not None]
    with_crop(terms if not files else [Term(data=b"")], crop)
    settings = read_settings()
    asked = wanted if crop is None else wanted.model_copy(update={"crop": crop})
    shows = thumbnails is not None
    if wanted.face is not None:
        # A running server shows no faces to commands.
        face = _by_face(asked, wanted.face, terms, files, limit=limit)
        found = await _search_here(settings, face, thumbnails=shows)
    else:
        found = search_by_server(settings, expression, files, asked, limit=limit, thumbnails=shows)
    if found is None:
        terms = with_crop([_with_file(term) for term in terms], crop)
        query = replace(query_of(wanted, None, limit=limit), terms=terms)
        found = await _search_here(settings, query, thumbnails=shows)
    if as_json:
        show_json([hit.model_dump(mode="json") for hit in found.hits])
    else:
        _show(found, thumbnails)
    if opens and found.hits:
        click.launch(_place(found.hits[0]))
    return found.is_found


def _by_face(
    wanted: SearchRequest, face: FaceRequest, terms: list[Term], files: list[Path], *, limit: int
) -> FaceQuery:
    """Return the search by a face of an indexed image, or of the one file; raises a usage error."""
    if len(terms) > 1 or len(files) < len(terms):
        raise click.UsageError("--face goes with one file, or with the id of an indexed image.")
    data = files[0].read_bytes() if files else None
    try:
        return face_query_of(wanted, face, data, limit=limit)
    except InvalidRequest as problem:
        raise click.UsageError(problem.detail) from problem


async def _search_here(settings: Settings, query: Query | FaceQuery, *, thumbnails: bool) -> Found:
    """Search with an encoder and a database of our own."""
    # Imported here because a running server has it all.
    from app.lookalike import open_lookalike

    if settings.verify_ms:
        # No one else waits, and the keypoints of a new index may have to be made first.
        longest = max(settings.verify_ms, VERIFY_MS)
        settings = settings.model_copy(update={"verify_ms": longest})
    async with open_lookalike(settings, announce=say) as lookalike:
        if isinstance(query, FaceQuery):
            results = await lookalike.face_searcher.search(query)
        elif query.is_empty and query.filters:
            results = await lookalike.lister.first_page(query)
        else:
            results = await lookalike.searcher.search(query)
        pictures: dict[UUID, bytes] = {}
        for hit in results.hits if thumbnails else ():
            _, pictures[hit.image.id] = await lookalike.catalog.thumbnail(hit.image.id) or ("", b"")
    hits, below = (
        [hit_document(hit, hit.image.url) for hit in some]
        for some in (results.hits, results.below[:1])
    )
    closest = below[0] if below and not hits else None
    return Found(hits, closest, results.notes, pictures, lowest=results.min_similarity)


def _file_of(term: Term) -> Path | None:
    """Return the file that a term names, if it names one; raises `click.UsageError`."""
    if term.text is None or term.quoted:
        return None
    path = Path(term.text)
    if _is_file(path):
        return path
    if path.suffix.lower() in SUFFIXES:
        raise click.UsageError(f"There is no file {path}.")
    return None


def _with_file(term: Term) -> Term:
    """Return a term with the bytes of the file it names; other terms as they are."""
    path = _file_of(term)
    return term if path is None else replace(term, text=None, data=path.read_bytes())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A text may be longer than a file's name can be.
        return False


def _show(found: Found, thumbnails: Protocol | None) -> None:
    """Print the notes and the hits, best first, or else the closest image."""
    for note in found.notes:
        say(note)
    if not found.hits:
        if found.closest is None:
            say("No images were found.")
        else:
            similarity, place = _similarity(found.closest), _place(found.closest)
            say(f"No image is similar enough. The closest, at {similarity}: {place}")
        return
    if not found.is_found:
        say("None of these is proved to be the same image.")
    digits = len(str(len(found.hits)))
    for rank, hit in enumerate(found.hits, 1):
        size = f"{hit.width} x {hit.height}"
        differences = "; ".join(differences_of(hit))
        about = f"({differences})  " if differences else ""
        if thumbnails and found.thumbnails.get(hit.id):
            click.echo(in_terminal(found.thumbnails[hit.id], thumbnails), nl=False)
        # The path stays last: scripts cut it off there.
        click.echo(
            f"{rank:>{digits}}  {hit.match or '':7}  {_similarity(hit)}  {size:>13}  "
            f"{about}{_place(hit)}"
        )


def _similarity(hit: HitDocument) -> str:
    """Return a similarity in five characters."""
    similarity = similarity_of(hit)
    if similarity is not None:
        return f"{similarity:.3f}"
    return "words" if hit.matched else "  -  "


def _place(hit: HitDocument) -> str:
    """Return the path of a file of this machine, and the URL of anything else."""
    return local_path(hit.url) if hit.url.startswith("file:") else hit.url
