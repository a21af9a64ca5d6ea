"""The HTML page on which two images are laid over each other."""

import base64
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from starlette.responses import Response

from app.problems import Problem
from app.search.comparer import ComparedImage, Verdict
from app.search.query import Term
from app.search.requests import term_named
from app.search.shared_regions import Regions, frame, shared_regions
from app.search.wording import facts_of, meaning_of
from app.web.replicas import searched
from app.web.requests import Request, parts, shown_original
from app.web.templating import page


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the two images as the page shows it.

    `src` is a URL of this server or a `data:` URL, `finer` one of the original, `page` that of the
    image's own page.
    """

    image: ComparedImage
    src: str
    finer: str | None = None
    page: str | None = None
    regions: Regions | None = None


async def compare_page(request: Request) -> Response:
    """Compare the images that `a` and `b` name: by the id of an image or of an upload, or a URL."""
    given = {name: request.query_params.get(name, "").strip() for name in ("a", "b")}
    verdict: Verdict | None = None
    problem: Problem | None = None
    a, b = Term(), Term()
    try:
        if all(given.values()):
            a, b = [await _term(request, *pair) for pair in given.items()]
            verdict = await searched(request, partial(parts(request).comparer.compare, a, b))
    except Problem as exc:
        problem = exc
    return page(
        request,
        "compare.html",
        status_code=problem.status if problem else 200,
        given=given,
        problem=problem,
        **(_laid(verdict, a, b) if verdict else {}),
    )


async def _term(request: Request, name: str, value: str) -> Term:
    """Return the image that a value names; an id is that of an upload if no image has it."""
    term = term_named(name, value)
    if term.image is not None and await parts(request).catalog.find(term.image) is None:
        return Term(upload=term.image)
    return term


def _laid(verdict: Verdict, a: Term, b: Term) -> dict[str, object]:
    """Return what the template shows of a comparison."""
    alignment, sizes = verdict.alignment, (verdict.a.size, verdict.b.size)
    on_a, on_b = shared_regions(alignment, *sizes) if alignment else (None, None)
    return {
        "verdict": verdict,
        "meaning": meaning_of(verdict),
        "facts": facts_of(verdict),
        "a": _shown(verdict.a, a, on_a),
        "b": _shown(verdict.b, b, on_b),
        "frame": frame(alignment, *sizes) if alignment else None,
    }


def _shown(image: ComparedImage, term: Term, regions: Regions | None) -> Shown:
    if term.upload is not None:
        return Shown(image, _path("uploads", term.upload), regions=regions)
    row = image.row
    if row is None:
        data = base64.b64encode(image.thumbnail).decode()
        return Shown(image, f"data:image/jpeg;base64,{data}", regions=regions)
    own = _path("images", row.id)
    return Shown(image, f"{own}/thumbnail", shown_original(row), own, regions)


def _path(kind: str, identity: UUID) -> str:
    return f"/{kind}/{identity}"
