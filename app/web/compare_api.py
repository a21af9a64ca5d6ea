"""The JSON endpoint that compares two images."""

from functools import partial

from starlette.datastructures import UploadFile
from starlette.responses import Response

from app.problems import InvalidRequest, NoPicture
from app.search.compare_documents import verdict_document
from app.search.query import Term
from app.search.requests import term_named
from app.web import schemas
from app.web.forms import form_of, is_form
from app.web.replicas import searched
from app.web.requests import Request, json_body, parts, respond, uploaded

NAMES = ("a", "b")


async def compare(request: Request) -> Response:
    """Return how two images relate to each other."""
    if is_form(request):
        a, b = await _from_form(request)
    else:
        wanted = await json_body(request, schemas.CompareRequest)
        a, b = wanted.a.term, wanted.b.term
    verdict = await searched(request, partial(parts(request).comparer.compare, a, b))
    return respond(verdict_document(verdict, encoder=parts(request).encoder.model.name))


async def _from_form(request: Request) -> list[Term]:
    async with form_of(request) as form:
        for name in form:
            if name not in NAMES:
                raise InvalidRequest(f"{name[:100]}: unknown field")
        terms: list[Term] = []
        for name in NAMES:
            value = form.get(name)
            if isinstance(value, UploadFile):
                terms.append(Term(await uploaded(request, form, name)))
            elif value is None or not value.strip():
                raise NoPicture(f"{name}: send a file, a URL or the id of an indexed image.")
            else:
                terms.append(term_named(name, value.strip()))
        return terms
