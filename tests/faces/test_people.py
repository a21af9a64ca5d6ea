"""People: how faces are grouped, and that what someone said of them stays."""

import asyncio
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from app.faces.face import SAME_FACE, SAME_PERSON, Box, Face, Found
from app.lookalike import Lookalike
from app.store.faces import FaceId
from app.store.placing import ENDING_LOCK
from tests.live import Loop

DIMENSIONS = 128


def of_person(number: int, photo: int) -> np.ndarray:
    """Return the vector of a face of someone, in one of the photos of them."""
    vector = np.zeros(DIMENSIONS)
    vector[number] = 1
    # Two photos of one person have a cosine of 0.98.
    vector[20 + photo % 100] = 0.14
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def a_face(vector: np.ndarray | None, place: int = 0) -> Face:
    return Face(Box(place / 10, 0, 0.1, 0.1), 0.9, (), vector=vector)


class Photos:
    """Images with faces that no detector has to find."""

    def __init__(self, lookalike: Lookalike, loop: Loop) -> None:
        self.lookalike, self.loop = lookalike, loop
        url = lookalike.settings.database_url
        assert url is not None
        self.url = url.get_secret_value()

    def add(self, vectors: Sequence[np.ndarray | None], image_id: UUID | None = None) -> UUID:
        image_id = image_id or uuid4()
        with psycopg.connect(self.url) as database:
            database.execute(
                "INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif,"
                " title, description, tags, thumbnail, words) VALUES (%s, %s, %s, 0, 1, 1, 1,"
                " 'PNG', '{}', '', '', '{}', 'x', '') ON CONFLICT DO NOTHING",
                [
                    image_id,
                    f"http://localhost/{image_id}",
                    image_id.hex * 2,
                ],
            )
        self.look(image_id, [a_face(vector, place) for place, vector in enumerate(vectors)])
        return image_id

    def look(self, image_id: UUID, faces: Sequence[Face]) -> None:
        async def keep() -> None:
            async with self.lookalike.database.begin() as connection:
                await self.lookalike.catalog.lock(connection, [image_id])
                await self.lookalike.faces.keep(
                    connection, {image_id: Found(tuple(faces), "vectors")}
                )

        self.loop.run(keep())

    def place(self) -> int:
        return self.loop.run(self.lookalike.people_maker.run())

    def ask(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url) as database:
            return database.execute(statement, values).fetchall()

    def delete(self, image_id: UUID) -> None:
        with psycopg.connect(self.url) as database:
            database.execute("DELETE FROM images WHERE id = %s", [image_id])

    def persons(self) -> dict[FaceId, UUID | None]:
        return {
            (row[0], row[1]): row[2]
            for row in self.ask('SELECT image_id, "order", person_id FROM faces')
        }

    def groups(self) -> list[set[FaceId]]:
        found: dict[UUID, set[FaceId]] = {}
        for face, person in self.persons().items():
            if person is not None:
                found.setdefault(person, set()).add(face)
        return sorted(found.values(), key=len)


@pytest.fixture
def photos(lookalike: Lookalike, loop: Loop) -> Photos:
    return Photos(lookalike, loop)


def test_faces_of_one_person_are_grouped_and_no_others(photos: Photos) -> None:
    one, two, other = (
        photos.add([of_person(1, 1)]),
        photos.add([of_person(1, 2), of_person(2, 1)]),
        photos.add([of_person(3, 1), None]),
    )
    assert photos.place() == 4
    assert photos.groups() == [{(one, 0), (two, 0)}]
    assert photos.persons()[other, 0] is None
    # A later photo finds its person, and makes one with a face that was alone.
    three = photos.add([of_person(1, 3), of_person(3, 2)])
    assert photos.place() == 2
    assert photos.groups() == [{(other, 0), (three, 1)}, {(one, 0), (two, 0), (three, 0)}]
    assert photos.place() == 0
    people = photos.loop.run(photos.lookalike.people.some(limit=10))
    assert [(person.name, person.faces, person.images) for person in people] == [
        ("", 3, 3),
        ("", 2, 2),
    ]


def test_one_odd_photo_does_not_join_two_people(photos: Photos) -> None:
    for number in (1, 2, 3):
        photos.add([of_person(1, number)])
    photos.place()
    # Near one face of the person only.
    vector = of_person(1, 1)
    vector[21] = 0.4
    vector /= np.linalg.norm(vector)
    assert vector @ of_person(1, 1) > SAME_PERSON > SAME_FACE > vector @ of_person(1, 2)
    odd = photos.add([vector])
    photos.place()
    assert photos.persons()[odd, 0] is None
    assert len(photos.groups()) == 1


def test_faces_of_a_person_who_was_forgotten_are_only_found_by_new_ones(photos: Photos) -> None:
    one, two = (photos.add([of_person(1, number)]) for number in (1, 2))
    photos.place()
    [person] = photos.loop.run(photos.lookalike.people.some(limit=10))
    assert photos.loop.run(photos.lookalike.people.dissolve(person.id))
    assert photos.place() == 0
    assert photos.groups() == []
    three = photos.add([of_person(1, 3)])
    photos.place()
    [group] = photos.groups()
    assert (three, 0) in group
    assert len(group & {(one, 0), (two, 0)}) == 1


def test_a_removed_face_stays_no_ones(photos: Photos) -> None:
    one, two, wrong = (photos.add([of_person(1, number)]) for number in (1, 2, 3))
    photos.place()
    [person] = photos.loop.run(photos.lookalike.people.some(limit=10))
    assert photos.loop.run(photos.lookalike.people.remove(person.id, [(wrong, 0)]))
    # Most like it, so not whoever is next, nor a new person with it.
    like = photos.add([of_person(1, 3)])
    photos.place()
    # The detector looks again.
    photos.look(wrong, [a_face(of_person(1, 3))])
    photos.place()
    assert photos.groups() == [{(one, 0), (two, 0)}]
    # Others like it find each other.
    other = photos.add([of_person(1, 3)])
    photos.place()
    groups = photos.groups()
    assert len(groups) == 2
    assert {(one, 0), (two, 0)} in groups
    assert {(like, 0), (other, 0)} in groups
    assert photos.persons()[wrong, 0] is None


def test_a_name_goes_with_the_last_face(photos: Photos) -> None:
    images = [photos.add([of_person(1, number)]) for number in (1, 2)]
    photos.place()
    people = photos.lookalike.people
    [person] = photos.loop.run(people.some(limit=10))
    assert photos.loop.run(people.rename(person.id, "Ada"))
    photos.delete(images[0])
    assert photos.ask("SELECT name FROM people") == [("Ada",)]
    photos.delete(images[1])
    assert photos.ask("SELECT name FROM people") == []


def test_two_who_delete_the_last_faces_leave_no_name(photos: Photos) -> None:
    images = [photos.add([of_person(1, number)]) for number in (1, 2)]
    photos.place()
    with psycopg.connect(photos.url) as one, psycopg.connect(photos.url) as two:
        one.execute("DELETE FROM images WHERE id = %s", [images[0]])
        two.execute("DELETE FROM images WHERE id = %s", [images[1]])
        one.commit()
        two.commit()
    assert photos.ask("SELECT count(*) FROM people") == [(0,)]


@dataclass
class Ending:
    """A person whose last faces are about to be deleted: in `ends`, all but the commit is done.

    There is another one, with two faces.
    """

    person: UUID
    other: UUID
    ends: psycopg.Connection
    photos: Photos

    def while_waiting(self, work: Any) -> Any:
        """Begin some work, commit once it waits for the deletion, and return what comes of it."""
        return while_waiting(self.photos, self.ends, work)


def while_waiting(photos: Photos, other: psycopg.Connection, work: Any) -> Any:
    """Begin some work, commit the other transaction once it waits, and return what comes of it."""

    async def run() -> Any:
        task = asyncio.ensure_future(work)
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN "
            "(SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        )
        async with asyncio.timeout(60):
            while photos.ask(waiting) != [(1,)]:
                assert not task.done(), "it did not wait"
                await asyncio.sleep(0)
        await asyncio.to_thread(other.commit)
        return await task

    return photos.loop.run(run())


@pytest.fixture
def ending(photos: Photos) -> Generator[Ending]:
    images = [photos.add([of_person(1, number)]) for number in (1, 2)]
    others = [photos.add([of_person(2, number)]) for number in (1, 2)]
    photos.place()
    persons = photos.persons()
    person, other = persons[images[0], 0], persons[others[0], 0]
    assert person is not None
    assert other is not None
    with psycopg.connect(photos.url) as ends:
        ends.execute("DELETE FROM images WHERE id = ANY(%s)", [images])
        ends.execute("SET CONSTRAINTS ALL IMMEDIATE")
        yield Ending(person, other, ends, photos)


def test_no_face_is_given_to_a_person_that_ends_meanwhile(ending: Ending) -> None:
    photos = ending.photos
    new = photos.add([of_person(1, 3)])
    assert ending.while_waiting(photos.lookalike.people_maker.run()) == 1
    assert photos.persons()[new, 0] is None
    assert [len(faces) for faces in photos.groups()] == [2]


def test_no_one_is_merged_into_a_person_that_ends_meanwhile(ending: Ending) -> None:
    photos, people = ending.photos, ending.photos.lookalike.people
    assert not ending.while_waiting(people.merge(ending.person, [ending.other]))
    assert list(photos.persons().values()) == [ending.other] * 2


def test_a_person_who_gets_a_face_meanwhile_does_not_end(photos: Photos) -> None:
    images = [photos.add([of_person(1, number)]) for number in (1, 2)]
    photos.place()
    [person] = photos.loop.run(photos.lookalike.people.some(limit=10))
    new = photos.add([of_person(1, 3)])
    with psycopg.connect(photos.url) as reads, psycopg.connect(photos.url) as deletes:
        deletes.execute("DELETE FROM images WHERE id = ANY(%s)", [images])
        # Placing begins before the deletion is committed, and waits before it writes.
        reads.execute("SELECT pg_advisory_xact_lock(%s)", [ENDING_LOCK])
        while_waiting(photos, reads, photos.lookalike.people_maker.run())
        deletes.commit()
    assert photos.persons() == {(new, 0): person.id}


def test_forgetting_faces_forgets_people(photos: Photos) -> None:
    for number in (1, 2):
        photos.add([of_person(1, number)])
    photos.place()
    photos.loop.run(photos.lookalike.faces.forget())
    assert photos.ask("SELECT count(*) FROM people") == [(0,)]


def test_an_image_that_is_looked_at_again_keeps_its_people(photos: Photos) -> None:
    one = photos.add([of_person(1, 1), of_person(2, 1)])
    photos.add([of_person(1, 2), of_person(2, 2)])
    photos.place()
    before = photos.persons()
    # A face more on the left, and the others moved a little.
    looked = [
        Face(Box(0.9, 0.5, 0.05, 0.05), 0.9, (), vector=of_person(7, 1)),
        Face(Box(0.01, 0, 0.1, 0.1), 0.9, (), vector=of_person(1, 1)),
        Face(Box(0.11, 0, 0.1, 0.1), 0.9, (), vector=of_person(2, 1)),
    ]
    photos.look(one, looked)
    after = photos.persons()
    assert [after[one, order] for order in range(3)] == [None, before[one, 0], before[one, 1]]


def waiters(url: str, number: int) -> None:
    """Wait until so many wait for a lock of this database."""
    with psycopg.connect(url, autocommit=True) as database:
        while True:
            row = database.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if row and row[0] >= number:
                return


def test_a_merged_person_has_the_first_name_that_was_given(photos: Photos) -> None:
    people = photos.lookalike.people
    for number in range(4):
        photos.add([of_person(number, 1)])
        photos.add([of_person(number, 2)])
    photos.place()
    into, *others = (person.id for person in photos.loop.run(people.some(limit=10)))
    # The last of the ids comes first, and the one before has no name.
    first, none, last = sorted(others, reverse=True)
    for person, name in ((first, "Ada"), (last, "Bo")):
        photos.loop.run(people.rename(person, name))
    assert photos.loop.run(people.merge(into, [none, first, last]))
    assert photos.ask("SELECT name FROM people") == [("Ada",)]


def test_faces_that_are_deleted_meanwhile_leave_no_empty_person(photos: Photos) -> None:
    one, two = (photos.add([of_person(1, number)]) for number in (1, 2))
    photos.place()
    [person] = photos.loop.run(photos.lookalike.people.some(limit=10))
    with ThreadPoolExecutor() as threads, psycopg.connect(photos.url) as deleting:
        deleting.execute("DELETE FROM images WHERE id = %s", [one])
        split = photos.lookalike.people.split(person.id, [(one, 0)], name="Bo")
        other = threads.submit(photos.loop.run, split)
        waiters(photos.url, 1)
        deleting.commit()
        assert other.result() is None
    assert photos.ask("SELECT id FROM people") == [(person.id,)]
    assert photos.groups() == [{(two, 0)}]


def test_who_ends_meanwhile_is_not_merged_into(photos: Photos) -> None:
    images = [photos.add([of_person(number, photo)]) for number in (1, 2) for photo in (1, 2)]
    photos.place()
    into, other = (photos.persons()[image, 0] for image in images[1:3])
    assert into is not None
    assert other is not None
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(photos.url) as holding,
        psycopg.connect(photos.url) as deleting,
    ):
        holding.execute("SELECT pg_advisory_xact_lock(%s)", [ENDING_LOCK])
        deleting.execute("DELETE FROM images WHERE id = ANY(%s)", [images[:2]])
        deleted = threads.submit(deleting.commit)
        waiters(photos.url, 1)
        merged = threads.submit(photos.loop.run, photos.lookalike.people.merge(into, [other]))
        waiters(photos.url, 2)
        holding.commit()
        deleted.result()
        assert merged.result() is False
    assert photos.ask("SELECT id FROM people") == [(other,)]


@dataclass
class Known:
    """What the test knows of who is who."""

    persons: dict[FaceId, UUID | None] = field(default_factory=dict[FaceId, UUID | None])
    names: dict[UUID, str] = field(default_factory=dict[UUID, str])


class Album(RuleBasedStateMachine):
    """Faces come and go, and someone says who is who."""

    photos: Photos
    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        with psycopg.connect(self.photos.url) as database:
            database.execute("DELETE FROM images")
        self.known = Known()
        self.number = 0

    @rule(target=images, people=st.lists(st.integers(0, 4), min_size=1, max_size=3))
    def add(self, people: list[int]) -> UUID:
        self.number += 1
        return self.photos.add([of_person(person, self.number) for person in people])

    @rule(image=consumes(images))
    def delete(self, image: UUID) -> None:
        self.photos.delete(image)
        self.known.persons = {f: p for f, p in self.known.persons.items() if f[0] != image}

    @rule()
    def place(self) -> None:
        self.photos.place()
        now = self.photos.persons()
        for face, person in self.known.persons.items():
            # Only a face that was alone may have found someone, and then a new person.
            assert now[face] == person or (person is None and now[face] not in self.known.names)
        self.known.persons = now
        self.known.names |= {p: "" for p in now.values() if p and p not in self.known.names}

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        if people := self.people():
            person = data.draw(st.sampled_from(people))
            name = data.draw(st.sampled_from(["Ada", "Bo", ""]))
            self.photos.loop.run(self.photos.lookalike.people.rename(person, name))
            self.known.names[person] = name

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        if len(people := self.people()) > 1:
            into, other = data.draw(st.permutations(people))[:2]
            assert self.photos.loop.run(self.photos.lookalike.people.merge(into, [other]))
            self.give({f for f, p in self.known.persons.items() if p == other}, into)
            self.known.names[into] = self.known.names[into] or self.known.names[other]

    @rule(data=st.data(), named=st.booleans(), removes=st.booleans())
    def split(self, data: st.DataObject, *, named: bool, removes: bool) -> None:
        if not (people := self.people()):
            return
        person = data.draw(st.sampled_from(people))
        theirs = sorted(f for f, p in self.known.persons.items() if p == person)
        faces = data.draw(st.lists(st.sampled_from(theirs), min_size=1, unique=True))
        table, loop = self.photos.lookalike.people, self.photos.loop
        if removes:
            assert loop.run(table.remove(person, faces))
            self.give(faces, None)
            return
        name = "Cy" if named else ""
        other = loop.run(table.split(person, faces, name=name))
        assert other is not None
        self.known.names[other] = name
        self.give(faces, other)

    @invariant()
    def nothing_else_has_changed(self) -> None:
        now = self.photos.persons()
        assert {face: now[face] for face in self.known.persons} == self.known.persons
        names = dict(self.photos.ask("SELECT id, name FROM people"))
        assert names == {person: self.known.names[person] for person in self.people()}

    def people(self) -> list[UUID]:
        return sorted({person for person in self.known.persons.values() if person})

    def give(self, faces: Any, person: UUID | None) -> None:
        self.known.persons |= dict.fromkeys(faces, person)


def test_what_someone_said_stays_as_faces_come_and_go(photos: Photos) -> None:
    case = type("Case", (Album,), {"photos": photos}).TestCase
    case.settings = settings(
        max_examples=6,
        stateful_step_count=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


def test_the_vectors_of_the_test_are_what_it_says() -> None:
    assert of_person(1, 1) @ of_person(1, 2) > SAME_PERSON > of_person(1, 1) @ of_person(2, 1)
