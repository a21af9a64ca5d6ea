"""The Python client, against a real server."""

import json
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from lookalike import AsyncClient, Client, ImageEntry, Problem
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, encode, photo, png

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def client(server: Server) -> Generator[Client]:
    with Client(http=client_of(server.address)) as client:
        yield client


def async_client(server: Server) -> AsyncClient:
    http = httpx.AsyncClient(base_url=server.address, timeout=60, trust_env=False)
    return AsyncClient(http=http)


def test_upsert_and_query(client: Client, host: ImageHost) -> None:
    entry = ImageEntry(url=host.url("seed/2.png"), title="Discs", tags=["a"], metadata={"n": 2})
    good, titled, bad = client.upsert([host.url("seed/1.png"), entry, "nonsense"])
    assert (good.status, titled.status, bad.status) == ("indexed", "indexed", "failed")
    assert isinstance(titled.id, UUID)
    assert (bad.id, bool(bad.reason)) == (None, True)
    assert client.query(altered(png(2))) == [entry["url"]]
    assert client.query(png(1), verified=True) == [good.url]


def test_files_are_given_by_path_bytes_or_opened(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png(1))
    outcomes = client.upload([path])
    with path.open("rb") as opened:
        outcomes += client.upload([str(path), png(1), BytesIO(png(1)), opened])
    assert len({outcome.id for outcome in outcomes}) == 1
    [hit] = client.search(path).hits
    assert (hit.match, hit.title, hit.width) == ("exact", "photo.png", 256)
    assert client.thumbnail(hit.id)[:2] == b"\xff\xd8"


def test_search_takes_every_option(client: Client, host: ImageHost) -> None:
    entries = [
        ImageEntry(url=host.url(f"seed/{n}.png"), tags=["a, b"], metadata={"n": n % 2, "x": "y"})
        for n in range(5)
    ]
    ids = [outcome.id for outcome in client.upsert(entries) if outcome.id]
    results = client.search(
        altered(png(1)),
        min_similarity=-1,
        limit=2,
        tags=["a, b"],
        metadata={"n": 1},
        orientations=["square", "landscape"],
        located=False,
        include=["hashes"],
    )
    assert [hit.metadata["n"] for hit in results.hits] == [1, 1]
    [copy, other] = results.hits
    assert (copy.match, other.match) == ("copy", "similar")
    assert copy.alignment is not None
    assert len(copy.alignment.matrix[0]) == 3
    assert len(copy.sha256 or "") == 64
    liked = client.search(like=ids[:2], unlike=ids[2:3], taken_before=None or _later())
    assert liked.hits == []
    assert {hit.id for hit in client.search(like=ids[:2]).hits} == set(ids[2:])
    by_region = client.search(png(1), crop=(0, 0, 0.5, 0.5), limit=1, box=(-180, -90, 180, 90))
    assert by_region.hits == []
    summed = client.search(query=[{"id": str(ids[0])}, {"id": ids[1], "weight": -0.5}])
    assert len(summed.hits) == 3


def _later() -> datetime:
    return datetime(2100, 1, 1, tzinfo=UTC)


def test_search_all_yields_every_hit_once(client: Client, host: ImageHost) -> None:
    client.upsert([ImageEntry(url=host.url(f"seed/{n}.png"), tags=["a"]) for n in range(7)])
    listed = list(client.search_all(tags=["a"], limit=3, include=["colours"]))
    assert len({hit.url for hit in listed}) == len(listed) == 7
    assert all(hit.colours is not None for hit in listed)
    near = list(client.search_all(png(1), min_similarity=-1, limit=3))
    assert len({hit.url for hit in near}) == len(near) == 7
    assert near[0].match == "exact"


def test_images_are_listed_changed_and_deleted(client: Client, host: ImageHost) -> None:
    outcomes = client.upsert([host.url(f"seed/{n}.png") for n in range(3)])
    assert {image.id for image in client.images()} == {outcome.id for outcome in outcomes}
    changed = client.update(outcomes[0].id or "", title="A boat", tags=["boat"])
    assert (changed.title, changed.tags) == ("A boat", ["boat"])
    [boat] = client.images("boat")
    shown = client.image(boat.id)
    assert shown.exif == {}
    assert len(shown.dhash or "") == 16
    assert client.facets(tags=["boat"])["total"] == 1
    client.delete(boat.id, trash=True)
    assert client.stats()["images"] == 2


def test_images_are_listed_in_every_order(
    client: Client, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.client.PAGE", 2)
    sizes = [(90, 40), (40, 40), (60, 60), (200, 100), (10, 300)]
    for number, size in enumerate(sizes):
        client.upsert([host.add(f"{number}.png", encode(photo(number).resize(size)))])
    newest = list(client.images())
    assert list(client.images(sort="oldest")) == newest[::-1]
    biggest = list(client.images(sort="biggest"))
    assert [i.width * i.height for i in biggest] == sorted((w * h for w, h in sizes), reverse=True)
    assert list(client.images(sort="smallest")) == biggest[::-1]
    heaviest = [i.bytes for i in client.images(sort="heaviest")]
    assert heaviest == sorted((i.bytes for i in newest), reverse=True)


def test_a_list_becomes_a_job_that_is_followed(
    client: Client, host: ImageHost, tmp_path: Path
) -> None:
    path = tmp_path / "images.csv"
    path.write_text(f"url,title\n{host.url('seed/1.png')},Discs\n{host.url('status/404')},\n")
    started = client.upsert_list(path)
    progress = list(client.follow(started.id))
    assert progress[-1].has_ended
    ended = client.job(started.id)
    assert (ended.state, ended.total, ended.indexed, ended.failed) == ("done", 2, 1, 1)
    [failed] = client.job_items(started.id, state="failed")
    assert failed.url == host.url("status/404")
    assert len(list(client.job_items(started.id))) == 2
    assert [job.id for job in client.jobs()] == [started.id]
    assert client.retry(started.id).id == started.id
    assert client.cancel(started.id).id == started.id


def test_a_list_needs_to_be_of_a_kind(client: Client) -> None:
    with pytest.raises(ValueError, match="media_type"):
        client.upsert_list(b"http://127.0.0.1/a.png")
    assert client.upsert_list(b"nonsense", media_type="text/plain").total == 1


def test_jobs_of_urls_and_uploads(client: Client, host: ImageHost) -> None:
    job = client.upsert_job([host.url("seed/1.png")])
    assert job.total == 1
    uploads = client.upload_job([png(2)])
    more = client.upload_job([png(3)], job=uploads.id)
    assert (more.id, more.total) == (uploads.id, 2)


def test_a_problem_is_raised(client: Client) -> None:
    with pytest.raises(Problem) as raised:
        client.query(b"not an image")
    problem = raised.value
    assert (problem.status, problem.slug) == (415, "not-a-picture")
    assert problem.request_id
    assert "not an image" in str(problem)
    with pytest.raises(Problem) as raised:
        list(client.follow(99))
    assert raised.value.status == 404
    with pytest.raises(ValueError, match="query"):
        client.search(png(1), query=[{"text": "a"}])


def test_a_key_is_sent(server: Server) -> None:
    # It is no key of this server, which then treats the client as one without.
    with Client(server.address, key="secret") as client:
        assert client.stats()["images"] == 0
        assert client._http.headers["authorization"] == "Bearer secret"  # pyright: ignore[reportPrivateUsage]


def test_the_same_to_be_awaited(
    server: Server, loop: Loop, host: ImageHost, tmp_path: Path
) -> None:
    path = tmp_path / "images.txt"
    path.write_text("\n".join(host.url(f"seed/{n}.png") for n in range(4)))

    async def use() -> None:
        async with async_client(server) as client:
            job = await client.upsert_list(path)
            states = [progress.state async for progress in client.follow(job.id)]
            assert states[-1] == "done"
            assert (await client.job(job.id)).indexed == 4
            assert len([item async for item in client.job_items(job.id)]) == 4
            results = await client.search(encode(photo(1)), min_similarity=-1, limit=3)
            assert results.hits[0].match == "exact"
            every = [hit async for hit in client.search_all(png(1), min_similarity=-1, limit=3)]
            assert len({hit.id for hit in every}) == 4
            images = [image async for image in client.images()]
            await client.update(images[0].id, title="x")
            assert (await client.image(images[0].id)).title == "x"
            assert (await client.thumbnail(images[0].id))[:2] == b"\xff\xd8"
            assert await client.query(png(2)) == [host.url("seed/2.png")]
            await client.delete(images[0].id)
            assert (await client.stats())["images"] == 3
            assert (await client.facets(formats=["PNG"]))["total"] == 3
            [outcome] = await client.upload([png(7)])
            assert outcome.status == "indexed"
            assert (await client.upsert([host.url("seed/9.png")]))[0].status == "indexed"
            later = await client.upsert_job([host.url("seed/1.png")])
            also = await client.upload_job([png(8)])
            assert [j.id for j in await client.jobs()][:2] == [also.id, later.id]
            assert (await client.cancel(also.id)).id == (await client.retry(also.id)).id
            with pytest.raises(Problem, match="no such image"):
                await client.image(UUID(int=0))
            with pytest.raises(Problem):
                _ = [job async for job in client.follow(99)]

    loop.run(use())


def test_the_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_an_import_brings_httpx_and_the_standard_library_only() -> None:
    program = (
        "import sys, json, httpx; before = set(sys.modules); import lookalike; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert roots - set(sys.stdlib_module_names) == {"lookalike"}


def test_a_server_needs_not_be_of_this_version() -> None:
    from lookalike.models import Job, read

    document = {"id": 1, "title": "a", "state": "done", "created_at": "2026-01-01T00:00:00Z"}
    assert read(Job, {**document, "of the future": {}}).has_ended
