"""The HTML endpoints; each works as a plain form or link, without JavaScript."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from app import schemas
from app.api import (
    Request,
    chosen_files,
    find_duplicates,
    find_image,
    original_url,
    page_of_images,
    parse,
    parts,
    run_search,
    selection_of,
    text_fields,
    uploaded,
    without_empty,
)
from app.catalog import Entry, Image, Selection
from app.index_api import event_stream, find_job, keep_uploads, urls_title
from app.job_items import Item, NewItem, Progress
from app.pictures import MEDIA_TYPES, SUFFIXES
from app.problems import (
    InvalidRequest,
    NoPicture,
    NotFound,
    PictureProblem,
    Problem,
    StartProblem,
)
from app.search import Results
from app.sources import KINDS, Kind, list_kind, read_list

NEIGHBOURS = 24
NEWEST = 12
IMAGES_PER_PAGE = 60
JOBS = 10
RECENT = 12
FAILURES = 20


def duration(seconds: float) -> str:
    """Return a time to wait as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


templates = Jinja2Templates(Path(__file__).parent / "templates")
templates.env.filters["duration"] = duration


@dataclass(frozen=True, slots=True)
class Shown:
    """A search as the form shows it again."""

    url: str
    text: str
    min_similarity: float


async def search_page(request: Request) -> Response:
    """Show the search form and, when something is asked, its results."""
    if request.method == "POST":
        async with request.form() as form:
            fields = text_fields(form)
            file = form.get("file")
            has_file = isinstance(file, UploadFile) and bool(file.filename or file.size)
            try:
                data = await uploaded(request, form) if has_file else None
            except Problem as problem:
                return await _search_page(request, _shown(request, fields), problem=problem)
    else:
        fields, data = dict(request.query_params), None
    asked = bool(data or fields.get("url") or fields.get("text"))
    shown = _shown(request, fields)
    if not asked:
        problem = (
            NoPicture("Choose a picture or give an address.") if request.method == "POST" else None
        )
        return await _search_page(request, shown, problem=problem)
    try:
        wanted = parse(schemas.SearchRequest, without_empty(fields))
        # A file wins over an address that is still in the form.
        wanted = wanted.model_copy(update={"url": None, "text": None}) if data else wanted
        results = await run_search(request, wanted, data)
    except Problem as problem:
        return await _search_page(request, shown, problem=problem)
    return await _search_page(request, shown, results=results)


async def picture_page(request: Request) -> Response:
    """Show one picture, what is known of it, and the pictures most like it."""
    lookalike = parts(request)
    image = await find_image(request)
    neighbours = await lookalike.searcher.by_image(
        image, limit=NEIGHBOURS, min_similarity=lookalike.settings.min_similarity
    )
    return _page(
        request,
        "picture.html",
        image=image,
        results=neighbours,
    )


async def index_page(request: Request, *, problem: Problem | None = None) -> Response:
    """Show the form that adds pictures, the jobs, and what is indexed or a selection of it."""
    lookalike = parts(request)
    wanted, selection = _selection(request.query_params)
    images, following = await page_of_images(
        request, selection, limit=IMAGES_PER_PAGE, cursor=request.query_params.get("cursor")
    )
    jobs = await lookalike.job_items.newest(limit=JOBS, recent=RECENT)
    return _page(
        request,
        "index.html",
        status_code=problem.status if problem else 200,
        images=images,
        next=following,
        jobs=[(job, await _failures(request, job)) for job in jobs],
        problem=problem,
        total=await lookalike.catalog.count(selection),
        wanted=wanted,
        selected=bool(selection),
        accept=_accept(),
        lists=",".join(KINDS),
    )


async def delete_selection(request: Request) -> Response:
    """Take out of the index what the list shows."""
    async with request.form() as form:
        _, selection = _selection(text_fields(form))
    if not selection:
        raise InvalidRequest("Say which pictures first.")
    await parts(request).indexer.delete_all(selection)
    return RedirectResponse("/index", 303)


async def change_picture(request: Request) -> Response:
    """Change what is said of a picture, or take it out of the index."""
    image = await find_image(request)
    indexer = parts(request).indexer
    async with request.form() as form:
        fields = text_fields(form)
    if fields.pop("delete", None):
        await indexer.delete([image])
        return RedirectResponse("/index", 303)
    tags = [tag.strip() for tag in fields.pop("tags", "").split(",")]
    said = parse(schemas.DescribeRequest, {**fields, "tags": [tag for tag in tags if tag]})
    await indexer.describe(image, Entry(image.url, said.title, said.description, said.tags))
    return RedirectResponse(f"/images/{image.id}", 303)


async def index_form(request: Request) -> Response:
    """Make a job of what the form names, and show it."""
    try:
        async with request.form(max_files=schemas.MOST_IMAGES_PER_REQUEST) as form:
            job_id = await _job_of(request, form)
    except (InvalidRequest, PictureProblem) as problem:
        return await index_page(request, problem=problem)
    return RedirectResponse(f"/index#job-{job_id}", 303)


async def job_events(request: Request) -> Response:
    """Show a job again each time it has moved on: the same HTML that the page has of it."""
    job = await find_job(request)
    template = templates.get_template("_job.html")

    async def render(job: Progress) -> str:
        return template.render(job=job, failures=await _failures(request, job))

    return event_stream(parts(request).jobs.watch(job.id), render)


async def change_job(request: Request) -> Response:
    """Do what a job's button says."""
    job = await find_job(request)
    lookalike = parts(request)
    match request.path_params["action"]:
        case "retry":
            await lookalike.jobs.retry(job.id)
        case "cancel":
            await lookalike.job_items.cancel(job.id)
        case "delete":
            await lookalike.job_items.delete(job.id)
        case _:
            raise NotFound
    return RedirectResponse(f"/index#job-{job.id}", 303)


async def duplicates_page(request: Request) -> Response:
    """Show groups of copies."""
    fields = {name: value for name, value in request.query_params.items() if value}
    wanted, found, problem = schemas.DuplicatesRequest.model_validate({}), None, None
    try:
        wanted = parse(schemas.DuplicatesRequest, fields)
        found = await find_duplicates(request, wanted)
    except InvalidRequest as exc:
        problem = exc
    return _page(
        request,
        "duplicates.html",
        status_code=problem.status if problem else 200,
        wanted=wanted,
        found=found,
        problem=problem,
    )


async def docs_page(request: Request) -> Response:
    """Show the API's operations and problems for reading."""
    return _page(request, "docs.html", document=request.app.state.openapi, problems=_all_problems())


def problem_page(request: Request, problem: Problem) -> Response:
    """Show a problem to someone with a browser."""
    return _page(request, "problem.html", status_code=problem.status, problem=problem)


async def _search_page(
    request: Request,
    shown: Shown,
    *,
    results: Results | None = None,
    problem: Problem | None = None,
) -> Response:
    catalog = parts(request).catalog
    nothing_asked = results is None and problem is None
    return _page(
        request,
        "search.html",
        status_code=problem.status if problem else 200,
        shown=shown,
        results=results,
        problem=problem,
        total=await catalog.count(),
        newest=await catalog.newest(limit=NEWEST) if nothing_asked else [],
        preview=_preview(results),
        accept=_accept(),
    )


def _selection(
    fields: Mapping[str, str],
) -> tuple[schemas.SelectionRequest, Selection]:
    known = {name: fields[name] for name in ("q", "gone") if fields.get(name)}
    wanted = parse(schemas.SelectionRequest, known)
    return wanted, selection_of(wanted)


async def _job_of(request: Request, form: FormData) -> int:
    lines = str(form.get("urls") or "").splitlines()
    items = [NewItem("web", Entry(line.strip())) for line in lines if line.strip()]
    title = urls_title(items) if items else ""
    files = chosen_files(form)
    lists: list[tuple[UploadFile, Kind]] = [
        (f, kind) for f in files if (kind := list_kind(f.filename or "")) is not None
    ]
    pictures = [file for file in files if list_kind(file.filename or "") is None]
    if not items and not files:
        raise NoPicture("Give addresses, one per line, or choose pictures or a list.")
    if pictures:
        items += await keep_uploads(request, pictures)
    names = [file.filename or "" for file in files]
    title = title or (names[0] if len(names) == 1 else f"{len(names)} files")
    listed = (NewItem("web", entry) for file, kind in lists for entry in read_list(file.file, kind))
    return await parts(request).jobs.create(title, chain(items, listed))


async def _failures(request: Request, job: Progress) -> list[Item]:
    if not job.counts.get("failed"):
        return []
    return await parts(request).job_items.items(job.id, state="failed", after=-1, limit=FAILURES)


def _shown(request: Request, fields: dict[str, str]) -> Shown:
    url = fields.get("url", "")
    default = parts(request).settings.min_similarity
    try:
        lowest = float(fields.get("min_similarity") or default)
    except ValueError:
        lowest = default
    return Shown(url=url, text=fields.get("text", ""), min_similarity=lowest)


def _preview(results: Results | None) -> str | None:
    """Return the query picture as an address that the page can show."""
    if results is None or results.picture is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(results.picture.thumbnail).decode()}"


def _accept() -> str:
    return ",".join(sorted({*MEDIA_TYPES.values(), *SUFFIXES}))


def _all_problems() -> list[type[Problem]]:
    def below(problem: type[Problem]) -> list[type[Problem]]:
        return [problem, *(leaf for child in problem.__subclasses__() for leaf in below(child))]

    never_sent = {StartProblem, *StartProblem.__subclasses__()}
    return [problem for problem in below(Problem) if problem not in never_sent]


def _page(request: Request, name: str, *, status_code: int = 200, **context: Any) -> Response:
    def original(image: Image) -> str:
        return original_url(request, image)

    encoder = parts(request).encoder
    return templates.TemplateResponse(
        cast(HttpRequest, request),
        name,
        {**context, "encoder": encoder, "original": original},
        status_code=status_code,
    )
