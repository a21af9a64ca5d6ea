"""The HTML pages of people; without FACES=vectors there are none."""

from typing import TypeVar

from starlette.responses import RedirectResponse, Response

from app.indexing.requests import parse
from app.problems import InvalidRequest, NotFound
from app.web.access import require
from app.web.clients import client_of
from app.web.forms import form_of
from app.web.people_api import (
    MergeRequest,
    PeopleRequest,
    PersonFacesRequest,
    RenameRequest,
    SplitRequest,
    find_person,
    people_page,
    person_page,
)
from app.web.requests import Request, parts
from app.web.templating import page

T = TypeVar("T")

PEOPLE_PER_PAGE, FACES_PER_PAGE = 60, 120


async def show_people(request: Request) -> Response:
    """Show the people, those with the most faces first."""
    _check(request)
    given = {name: v for name, v in request.query_params.items() if name in ("q", "cursor") and v}
    found = await people_page(request, parse(PeopleRequest, {**given, "limit": PEOPLE_PER_PAGE}))
    return page(request, "people.html", found=found, q=given.get("q", ""))


async def show_person(request: Request) -> Response:
    """Show a person's faces."""
    _check(request)
    cursor = request.query_params.get("cursor") or None
    wanted = parse(PersonFacesRequest, {"limit": FACES_PER_PAGE, "cursor": cursor})
    return page(request, "person.html", person=await person_page(request, wanted))


async def change_people(request: Request) -> Response:
    """Merge the chosen people into the first of them: the button."""
    _check(request)
    async with form_of(request) as form:
        chosen = [value for value in form.getlist("person") if isinstance(value, str)]
    if len(chosen) < 2:
        raise InvalidRequest("Choose at least two people who are the same person.")
    others = parse(MergeRequest, {"others": chosen}).others
    if not await parts(request).people.merge(others[0], others[1:]):
        raise NotFound("There is no such person.")
    return RedirectResponse(f"/people/{others[0]}", 303)


async def change_person(request: Request) -> Response:
    """Name or forget a person, or say that some faces are someone else's: the buttons."""
    _check(request)
    person = await find_person(request)
    table = parts(request).people
    async with form_of(request) as form:
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        faces = [_face(value) for value in form.getlist("face") if isinstance(value, str)]
    action = given.get("action")
    if action == "rename":
        wanted = parse(RenameRequest, {"name": given.get("name")})
        await table.rename(person.id, wanted.name.strip())
    elif action == "forget":
        await table.dissolve(person.id)
        return RedirectResponse("/people", 303)
    elif action in ("split", "remove"):
        chosen = parse(SplitRequest, {"faces": faces}).chosen
        if action == "split":
            other = await table.split(person.id, chosen, name="")
            return RedirectResponse(f"/people/{_there(other)}", 303)
        _there(await table.remove(person.id, chosen) or None)
    else:
        raise InvalidRequest("action: it is rename, forget, split or remove.")
    is_left = await table.find(person.id)
    return RedirectResponse(f"/people/{person.id}" if is_left else "/people", 303)


def _there(found: T | None) -> T:
    if found is None:
        raise NotFound("Not all of these are faces of this person.")
    return found


def _face(value: str) -> dict[str, str]:
    image_id, _, order = value.partition(":")
    return {"id": image_id, "order": order}


def _check(request: Request) -> None:
    """Raise a problem if the client may not see people; without any, there is no such page."""
    if not parts(request).face_searcher.is_on:
        raise NotFound
    require(client_of(request.scope), "faces")
