"""People by the Python client, against a real server."""

import subprocess
import sys

import httpx
import pytest

from lookalike import AsyncClient, Client, Person, PersonFace, Problem
from lookalike.people import AsyncPeople, People
from tests.client.test_examples import PROGRAMS
from tests.conftest import Server, client_of
from tests.faces.conftest import Opened
from tests.faces.test_people import Photos, of_person
from tests.live import Loop


def test_people_are_listed_named_merged_split_and_removed(
    server_with: Opened, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several pages of each list.
    monkeypatch.setattr("lookalike.people.PAGE", 1)
    with server_with(faces="vectors") as server, Client(http=client_of(server.address)) as client:
        photos = Photos(server.lookalike, loop)
        images = {photos.add([of_person(n, photo) for n in (1, 2, 3)]) for photo in range(3)}
        one, two, three = client.people()
        assert isinstance(one, Person)
        assert (one.name, one.faces, one.images, one.cover.width) == ("", 3, 3, 1)
        faces = list(client.person_faces(one.id))
        assert {face.id for face in faces} == images
        assert all(isinstance(face, PersonFace) for face in faces)

        assert client.rename_person(one.id, "Ada").name == "Ada"
        assert [person.id for person in client.people("ad")] == [one.id]
        merged = client.merge_people(one.id, [two.id, three.id])
        assert (merged.name, merged.faces, merged.images) == ("Ada", 9, 3)
        assert client.person(one.id) == merged
        chosen = [faces[0], (faces[1].id, faces[1].order)]
        other = client.split_person(one.id, chosen, name="Bo")
        assert (other.name, other.faces) == ("Bo", 2)
        client.remove_faces(other.id, [faces[0]])
        assert client.person(other.id).faces == 1
        client.forget_person(other.id)
        with pytest.raises(Problem) as refused:
            client.person(other.id)
        assert refused.value.status == 404
        loop.run(awaited(server, one))


async def awaited(server: Server, one: Person) -> None:
    """The same once more, to be awaited."""
    http = httpx.AsyncClient(base_url=server.address, timeout=60, trust_env=False)
    async with AsyncClient(http=http) as client:
        assert [person.id async for person in client.people()] == [one.id]
        faces = [face async for face in client.person_faces(one.id)]
        assert len(faces) == 7
        assert (await client.rename_person(one.id, "Cy")).name == "Cy"
        other = await client.split_person(one.id, faces[:2])
        assert (await client.merge_people(one.id, [other.id])).faces == 7
        await client.remove_faces(one.id, faces[:1])
        assert (await client.person(one.id)).faces == 6
        await client.forget_person(one.id)
        assert [person async for person in client.people()] == []


def test_the_clients_have_the_same_methods() -> None:
    assert {*dir(People)} == {*dir(AsyncPeople)}


def test_the_program_of_the_documentation(server_with: Opened, loop: Loop) -> None:
    [program] = [program for program in PROGRAMS if "merge_people" in program]
    with server_with(faces="vectors") as server:
        photos = Photos(server.lookalike, loop)
        for photo in range(2):
            photos.add([of_person(n, photo) for n in (1, 2)])
        local = program.replace("Client()", f'Client("{server.address}")')
        done = subprocess.run(
            [sys.executable, "-c", local], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("2 faces in") == 2
        [person] = server.client.get("/api/people").json()["people"]
        assert (person["name"], person["faces"]) == ("Ada", 4)
