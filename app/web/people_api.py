"""The JSON endpoints of people: groups of faces, which someone may name, merge and split."""

from functools import partial
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.responses import Response

from app.indexing.face_documents import FaceBoxDocument, box_document
from app.indexing.people_maker import MOST_AT_ONCE
from app.indexing.requests import RequestModel, Title
from app.problems import InvalidRequest, NotFound
from app.search.face_search import NO_VECTORS
from app.store.faces import FaceId
from app.store.people import Person, PersonFace
from app.web import cursors
from app.web.access import require
from app.web.clients import client_of
from app.web.forms import parse_query
from app.web.operations import IMAGE_ID, OTHER_ID, Operation
from app.web.requests import Request, json_body, parts, respond

# Of a person's faces, and of the order of a face: an integer in Postgres.
_MOST = 2**31 - 1


class PeopleRequest(RequestModel):
    """A page of the people."""

    q: str = Field("", max_length=1000, description="A part of their names, in any case.")
    limit: int = Field(50, ge=1, le=500, description="Most people of a page.")
    cursor: str | None = Field(None, max_length=200, description="`next` of the previous page.")


class PersonFacesRequest(RequestModel):
    """A page of a person's faces."""

    limit: int = Field(100, ge=1, le=1000, description="Most faces of a page.")
    cursor: str | None = Field(None, max_length=200, description="`next` of the previous page.")


class NamedFace(RequestModel):
    """A face of an image."""

    id: UUID = Field(description="The id of the image.")
    order: int = Field(ge=0, le=32_767, description="Its place from the left, from 0 on.")


class RenameRequest(RequestModel):
    """What a person is called."""

    name: Title = Field(description="Empty for no name.")


class MergeRequest(RequestModel):
    """People who are the same person."""

    others: list[UUID] = Field(
        min_length=1, max_length=1000, description="Whose faces this person gets; they are gone."
    )


class FacesRequest(RequestModel):
    """Some of a person's faces."""

    faces: list[NamedFace] = Field(
        min_length=1, max_length=1000, description="Which faces: all of them this person's."
    )

    @property
    def chosen(self) -> list[FaceId]:
        """Which faces they are."""
        return [(face.id, face.order) for face in self.faces]


class SplitRequest(FacesRequest):
    """The faces of a person who are someone else, and what that person is called."""

    name: Title = Field("", description="Empty for no name.")


class PersonFaceDocument(BaseModel):
    """A face of a person."""

    id: UUID = Field(description="The id of the image.")
    order: int = Field(description="Its place from the left, from 0 on.")
    box: FaceBoxDocument
    width: int = Field(description="Of the image, in pixels.")
    height: int
    thumbnail: str = Field(description="Path of the image's thumbnail, a JPEG.")


class PersonDocument(BaseModel):
    """A person: faces that are near each other, or that someone has put together."""

    id: UUID
    name: str = Field(description="Empty until someone gives one.")
    faces: int = Field(description="How many there are,")
    images: int = Field(description="and in how many images.")
    cover: PersonFaceDocument = Field(description="The face that the detector is surest of.")


class PeopleResponse(BaseModel):
    """A page of people, those with the most faces first."""

    people: list[PersonDocument]
    total: int = Field(description="How many there are, on all pages.")
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class PersonResponse(PersonDocument):
    """A person with a page of the faces."""

    shown: list[PersonFaceDocument]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


_FACES = {"faces": [{"id": IMAGE_ID, "order": 0}]}

PEOPLE_OPERATIONS = [
    Operation(
        "get",
        "/api/people",
        "List the people: groups of faces, found by themselves and named by no one but you. For "
        "keys with the scope `faces`, on servers with FACES=vectors. Up to some 1,000 new faces "
        "find their person before the answer.",
        name="list_people",
        tag="People",
        answer=PeopleResponse,
        query=PeopleRequest,
        asks={"limit": "10"},
        failures=(422, 503),
    ),
    Operation(
        "get",
        "/api/people/{id}",
        "Return a person with a page of the faces.",
        name="show_person",
        tag="People",
        answer=PersonResponse,
        query=PersonFacesRequest,
        failures=(404, 422, 503),
    ),
    Operation(
        "patch",
        "/api/people/{id}",
        "Name a person.",
        name="rename_person",
        tag="People",
        answer=PersonDocument,
        body=RenameRequest,
        example={"name": "Ada"},
        failures=(404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "delete",
        "/api/people/{id}",
        "Forget a person. The faces are then no one's, and are not put back; but each may begin a "
        "new person, without a name, with a new face that is like it.",
        name="forget_person",
        tag="People",
        status=204,
        failures=(404, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/people/{id}/merge",
        "Make one person of several. The name stays; where there is none, it is the first that one "
        "of the others has.",
        name="merge_people",
        tag="People",
        answer=PersonDocument,
        body=MergeRequest,
        example={"others": [OTHER_ID]},
        failures=(404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/people/{id}/split",
        "Make another person of some of the faces.",
        name="split_person",
        tag="People",
        answer=PersonDocument,
        body=SplitRequest,
        example={**_FACES, "name": "Bo"},
        failures=(404, 413, 422, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/people/{id}/remove",
        "Remove faces from a person. They are then no one's, and stay so: they are not put back, "
        "and begin no new person.",
        name="remove_faces",
        tag="People",
        body=FacesRequest,
        example=_FACES,
        status=204,
        failures=(404, 413, 422, 503),
        writes=True,
    ),
]


async def list_people(request: Request) -> Response:
    """List people."""
    check_people(request)
    return respond(await people_page(request, parse_query(request, PeopleRequest)))


async def show_person(request: Request) -> Response:
    """Return a person with a page of the faces."""
    check_people(request)
    wanted = parse_query(request, PersonFacesRequest)
    return respond(await person_page(request, wanted))


async def rename_person(request: Request) -> Response:
    """Name a person."""
    check_people(request)
    wanted = await json_body(request, RenameRequest)
    await parts(request).people.rename(_id(request), wanted.name.strip())
    return respond(person_document(await find_person(request)))


async def forget_person(request: Request) -> Response:
    """Forget a person."""
    check_people(request)
    if not await parts(request).people.dissolve(_id(request)):
        raise NotFound("There is no such person.")
    return Response(status_code=204)


async def merge_people(request: Request) -> Response:
    """Make one person of several."""
    check_people(request)
    wanted = await json_body(request, MergeRequest)
    if not await parts(request).people.merge(_id(request), wanted.others):
        raise NotFound("There is no such person.")
    return respond(person_document(await find_person(request)))


async def split_person(request: Request) -> Response:
    """Make another person of some faces."""
    check_people(request)
    wanted = await json_body(request, SplitRequest)
    table = parts(request).people
    other = await table.split(_id(request), wanted.chosen, name=wanted.name.strip())
    person = other and await table.find(other)
    if person is None:
        raise NotFound("Not all of these are faces of this person.")
    return respond(person_document(person))


async def remove_faces(request: Request) -> Response:
    """Remove faces from a person."""
    check_people(request)
    wanted = await json_body(request, FacesRequest)
    if not await parts(request).people.remove(_id(request), wanted.chosen):
        raise NotFound("Not all of these are faces of this person.")
    return Response(status_code=204)


def check_people(request: Request) -> None:
    """Raise a problem if the client may not see people, or the server keeps none."""
    require(client_of(request.scope), "faces")
    if not parts(request).face_searcher.is_on:
        raise InvalidRequest(NO_VECTORS)


async def people_page(request: Request, wanted: PeopleRequest) -> PeopleResponse:
    """Return a page of the people, after new faces have found theirs."""
    lookalike = parts(request)
    if wanted.cursor is None:
        await lookalike.people_maker.run(most=MOST_AT_ONCE)
    after = _position(wanted.cursor, "people") if wanted.cursor else None
    part = wanted.q.strip()
    found = await lookalike.people.some(
        limit=wanted.limit + 1, after=(after[1], after[0]) if after else None, part=part
    )
    page = found[: wanted.limit]
    return PeopleResponse(
        people=[person_document(person) for person in page],
        total=await lookalike.people.count(part=part),
        next=cursors.written("people", page[-1].id, page[-1].faces)
        if len(found) > len(page)
        else None,
    )


async def person_page(request: Request, wanted: PersonFacesRequest) -> PersonResponse:
    """Return a person with a page of the faces; raises `NotFound`."""
    person = await find_person(request)
    # Of another person, a position would be one in another list.
    of = f"faces-{person.id}"
    after = _position(wanted.cursor, of) if wanted.cursor else None
    faces = await parts(request).people.faces(person.id, limit=wanted.limit + 1, after=after)
    page = faces[: wanted.limit]
    more = len(faces) > len(page)
    return PersonResponse(
        **person_document(person).model_dump(),
        shown=[_face_document(face) for face in page],
        next=cursors.written(of, page[-1].image_id, page[-1].order) if more else None,
    )


async def find_person(request: Request) -> Person:
    """Return the person that the path names; raises `NotFound`."""
    person = await parts(request).people.find(_id(request))
    if person is None:
        raise NotFound("There is no such person.")
    return person


def person_document(person: Person) -> PersonDocument:
    """Return the JSON document of a person."""
    return PersonDocument(
        id=person.id,
        name=person.name,
        faces=person.faces,
        images=person.images,
        cover=_face_document(person.cover),
    )


def _face_document(face: PersonFace) -> PersonFaceDocument:
    return PersonFaceDocument(
        id=face.image_id,
        order=face.order,
        box=box_document(face.box),
        width=face.width,
        height=face.height,
        thumbnail=f"/images/{face.image_id}/thumbnail",
    )


def _id(request: Request) -> UUID:
    return request.path_params["id"]


def _position(cursor: str, of: str) -> FaceId:
    read = partial(cursors.number, most=_MOST)
    return cursors.read(cursor, of=of, first=UUID, second=read)
