"""People: groups of faces, on servers that keep vectors of them (FACES=vectors).

Every method needs the scope `faces`, and those that change something the scope `write`, too.
"""

from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import httpx

from lookalike.calls import Call
from lookalike.models import Person, PersonFace, read

T = TypeVar("T")

FaceId = PersonFace | tuple[UUID | str, int]
"""A face: one of a person, or the id of an image and the place from the left, from 0 on."""

PAGE = 500


def people(q: str, cursor: str | None) -> Call[tuple[list[Person], str | None]]:
    """Return a page of people."""

    def page(response: httpx.Response) -> tuple[list[Person], str | None]:
        document = response.json()
        return [read(Person, person) for person in document["people"]], document["next"]

    params = {"q": q, "limit": PAGE} | ({"cursor": cursor} if cursor else {})
    return Call("GET", "/api/people", page, params=params)


def person(person_id: UUID | str) -> Call[Person]:
    """Return a person."""
    return Call("GET", _path(person_id), _person, params={"limit": 1})


def faces(person_id: UUID | str, cursor: str | None) -> Call[tuple[list[PersonFace], str | None]]:
    """Return a page of a person's faces."""

    def page(response: httpx.Response) -> tuple[list[PersonFace], str | None]:
        document = response.json()
        return [read(PersonFace, face) for face in document["shown"]], document["next"]

    params = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
    return Call("GET", _path(person_id), page, params=params)


def rename(person_id: UUID | str, name: str) -> Call[Person]:
    """Name a person."""
    return Call("PATCH", _path(person_id), _person, json={"name": name})


def merge(person_id: UUID | str, others: Iterable[UUID | str]) -> Call[Person]:
    """Make one person of several."""
    body = {"others": [str(other) for other in others]}
    return Call("POST", _path(person_id, "/merge"), _person, json=body)


def split(person_id: UUID | str, chosen: Sequence[FaceId], name: str) -> Call[Person]:
    """Make another person of some faces."""
    body: Mapping[str, Any] = {"faces": _named(chosen), "name": name}
    return Call("POST", _path(person_id, "/split"), _person, json=body)


def remove(person_id: UUID | str, chosen: Sequence[FaceId]) -> Call[None]:
    """Remove faces from a person."""
    path = _path(person_id, "/remove")
    return Call("POST", path, lambda _: None, json={"faces": _named(chosen)})


def forget(person_id: UUID | str) -> Call[None]:
    """Forget a person."""
    return Call("DELETE", _path(person_id), lambda _: None)


class _Sends(Protocol):
    def send(self, call: Call[T]) -> T: ...


class _Awaits(Protocol):
    def send(self, call: Call[T]) -> Awaitable[T]: ...


class People:
    """The methods of people, for `Client`."""

    def people(self: _Sends, q: str = "") -> Iterator[Person]:
        """Yield all people, those with the most faces first, in whose names a text is.

        New faces find their people first.
        """
        page, cursor = self.send(people(q, None))
        yield from page
        while cursor:
            page, cursor = self.send(people(q, cursor))
            yield from page

    def person(self: _Sends, person_id: UUID | str) -> Person:
        """Return a person."""
        return self.send(person(person_id))

    def person_faces(self: _Sends, person_id: UUID | str) -> Iterator[PersonFace]:
        """Yield all faces of a person, each with the id of its image."""
        page, cursor = self.send(faces(person_id, None))
        yield from page
        while cursor:
            page, cursor = self.send(faces(person_id, cursor))
            yield from page

    def rename_person(self: _Sends, person_id: UUID | str, name: str) -> Person:
        """Name a person; an empty name is none."""
        return self.send(rename(person_id, name))

    def merge_people(self: _Sends, person_id: UUID | str, others: Iterable[UUID | str]) -> Person:
        """Give a person all faces of others, who are then gone.

        The name stays; where there is none, it is the first that one of the others has.
        """
        return self.send(merge(person_id, others))

    def split_person(
        self: _Sends, person_id: UUID | str, faces: Sequence[FaceId], *, name: str = ""
    ) -> Person:
        """Make another person of some of a person's faces; return that one."""
        return self.send(split(person_id, faces, name))

    def remove_faces(self: _Sends, person_id: UUID | str, faces: Sequence[FaceId]) -> None:
        """Remove faces from a person; they are then no one's, and stay so."""
        self.send(remove(person_id, faces))

    def forget_person(self: _Sends, person_id: UUID | str) -> None:
        """Forget a person; the faces are then no one's, and the images stay."""
        self.send(forget(person_id))


class AsyncPeople:
    """The methods of people, for `AsyncClient`."""

    async def people(self: _Awaits, q: str = "") -> AsyncGenerator[Person]:
        """See `Client.people`."""
        page, cursor = await self.send(people(q, None))
        for one in page:
            yield one
        while cursor:
            page, cursor = await self.send(people(q, cursor))
            for one in page:
                yield one

    async def person(self: _Awaits, person_id: UUID | str) -> Person:
        """See `Client.person`."""
        return await self.send(person(person_id))

    async def person_faces(self: _Awaits, person_id: UUID | str) -> AsyncGenerator[PersonFace]:
        """See `Client.person_faces`."""
        page, cursor = await self.send(faces(person_id, None))
        for face in page:
            yield face
        while cursor:
            page, cursor = await self.send(faces(person_id, cursor))
            for face in page:
                yield face

    async def rename_person(self: _Awaits, person_id: UUID | str, name: str) -> Person:
        """See `Client.rename_person`."""
        return await self.send(rename(person_id, name))

    async def merge_people(
        self: _Awaits, person_id: UUID | str, others: Iterable[UUID | str]
    ) -> Person:
        """See `Client.merge_people`."""
        return await self.send(merge(person_id, others))

    async def split_person(
        self: _Awaits, person_id: UUID | str, faces: Sequence[FaceId], *, name: str = ""
    ) -> Person:
        """See `Client.split_person`."""
        return await self.send(split(person_id, faces, name))

    async def remove_faces(self: _Awaits, person_id: UUID | str, faces: Sequence[FaceId]) -> None:
        """See `Client.remove_faces`."""
        await self.send(remove(person_id, faces))

    async def forget_person(self: _Awaits, person_id: UUID | str) -> None:
        """See `Client.forget_person`."""
        await self.send(forget(person_id))


def _path(person_id: UUID | str, action: str = "") -> str:
    return f"/api/people/{person_id}{action}"


def _person(response: httpx.Response) -> Person:
    return read(Person, response.json())


def _named(chosen: Sequence[FaceId]) -> list[dict[str, Any]]:
    pairs = ((f.id, f.order) if isinstance(f, PersonFace) else f for f in chosen)
    return [{"id": str(image_id), "order": order} for image_id, order in pairs]
