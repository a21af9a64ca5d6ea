"""The command `compare`."""

from dataclasses import replace
from pathlib import Path

import click

from app.cli.terminal import say, show_json, show_line
from app.lookalike import open_lookalike
from app.search.compare_documents import verdict_document
from app.search.comparer import Verdict
from app.search.explained import similarity_of
from app.search.query import Term, read_terms
from app.search.wording import facts_of, meaning_of
from app.settings import read_settings


async def compare(a: str, b: str, *, as_json: bool) -> bool:
    """Print how two images relate to each other; return whether anything is proved.

    Raises `click.UsageError` for what is no image.
    """
    first, second = _image(a), _image(b)
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        verdict = await lookalike.comparer.compare(first, second)
        encoder = lookalike.encoder.model.name
    if as_json:
        show_json(verdict_document(verdict, encoder=encoder).model_dump(mode="json"))
    else:
        _show(verdict)
    return verdict.match != "similar"


def _image(named: str) -> Term:
    """Return the image of a path, a URL or an id; files are read here."""
    path = Path(named)
    try:
        if path.is_file():
            return Term(path.read_bytes())
    except OSError as exc:
        raise click.UsageError(f"{named} cannot be read: {exc.strerror}.") from exc
    terms = read_terms(named)
    if len(terms) == 1 and terms[0].text is None:
        return replace(terms[0], weight=1.0)
    raise click.UsageError(f"{named} is not a file, a URL or the id of an indexed image.")


def _show(verdict: Verdict) -> None:
    show_line(f"{similarity_of(verdict):.3f}  {verdict.match:7}  {meaning_of(verdict)}")
    for name, fact in facts_of(verdict).items():
        show_line(f"{name.lower()}: {fact}")
