"""A client generated from the OpenAPI document does what the document promises, over real HTTP."""

import importlib
import json
from collections.abc import Generator
from io import BytesIO
from types import ModuleType
from typing import Any

import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType
from openapi_python_client.parser.errors import GeneratorError

from app.indexing.sources import LIST_MEDIA_TYPES
from app.web.openapi import OPERATIONS, openapi_document
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png

PACKAGE = "generated_client"
# What docs/client.md advises: the generator knows no types of images by itself.
BINARY = dict.fromkeys(["image/jpeg", "image/*"], "application/octet-stream")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[GeneratorError]]:
    """Generate the package, without network, and let it be imported."""
    folder = tmp_path_factory.mktemp("generated")
    document = folder / "openapi.json"
    document.write_text(json.dumps(openapi_document()))
    # No hooks: they would run ruff over what is thrown away.
    given = ConfigFile(post_hooks=[], content_type_overrides=BINARY)
    config = Config.from_sources(
        config_file=given,
        meta_type=MetaType.NONE,
        document_source=document,
        file_encoding="utf-8",
        overwrite=False,
        output_path=folder / PACKAGE,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield list(generate(config=config))


@pytest.fixture
def client(complaints: list[GeneratorError], server: Server) -> Generator[Any]:
    options = {"trust_env": False}
    made = package("client").Client(
        base_url=server.address, httpx_args=options, verify_ssl=False, timeout=60
    )
    with made:
        yield made


def package(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def models() -> ModuleType:
    return package("models")


def file_of(data: bytes) -> Any:
    return package("types").File(payload=BytesIO(data), file_name="a.png", mime_type="image/png")


def test_the_generator_leaves_out_nothing_but_lists(complaints: list[GeneratorError]) -> None:
    for complaint in complaints:
        kinds = [kind for kind in LIST_MEDIA_TYPES if f"content type {kind}" in complaint.detail]
        assert kinds, complaint
    for operation in OPERATIONS:
        module = package(f"api.{operation.tag.lower()}.{operation.name}")
        assert callable(module.sync_detailed)


def test_upsert_and_query_by_upload(client: Any, server: Server, host: ImageHost) -> None:
    entry = models().ImageEntry(url=host.url("seed/2.png"), title="Discs", tags=["round"])
    body = models().UpsertRequest(images=[host.url("seed/1.png"), entry, "nonsense"])
    answer = package("api.indexing.upsert").sync(client=client, body=body)
    assert [outcome.status for outcome in answer.results] == ["indexed", "indexed", "failed"]
    found = package("api.search.query").sync(
        client=client, body=models().QueryForm(file=file_of(altered(png(2))))
    )
    assert found == [host.url("seed/2.png")]


def test_uploads(client: Any, server: Server) -> None:
    body = models().UploadForm(file=[file_of(png(1)), file_of(png(2))])
    answer = package("api.indexing.upload_images").sync(client=client, body=body)
    assert [outcome.status for outcome in answer.results] == ["indexed", "indexed"]
    thumbnail = package("api.images.show_thumbnail")
    image = thumbnail.sync(answer.results[0].id, client=client)
    assert image.payload.read(2) == b"\xff\xd8"


def test_search_by_file_and_as_json(client: Any, server: Server, host: ImageHost) -> None:
    urls = [host.url(f"seed/{seed}.png") for seed in range(4)]
    tagged = [{"url": url, "tags": ["a, b"]} for url in urls]
    ids = [outcome["id"] for outcome in server.upsert(tagged)]
    search = package("api.search.search")
    form = models().SearchForm(
        file=file_of(png(1)),
        tags=["a, b"],
        min_similarity=-1.0,
        limit=2,
        orientations=[models().SearchFormOrientationsItem.SQUARE],
    )
    answer = search.sync(client=client, body=form)
    assert answer.results[0].url == urls[1]
    assert answer.results[0].match == "exact"
    following = search.sync(client=client, body=models().SearchForm(cursor=answer.next_, limit=2))
    assert len({hit.url for hit in [*answer.results, *following.results]}) == 4
    liked = search.sync(client=client, body=models().SearchRequest(like=ids[:2], box=None))
    assert {hit.url for hit in liked.results} == set(urls[2:])


def test_a_job(client: Any, server: Server, host: ImageHost) -> None:
    body = models().UpsertRequest(images=[host.url("seed/1.png"), host.url("status/404")])
    upsert = package("api.indexing.upsert")
    job = upsert.sync(client=client, body=body, prefer="respond-async")
    assert isinstance(job, models().JobDocument)
    events = package("api.jobs.follow_job").sync(job.id, client=client)
    assert events.rstrip().endswith("event: end\ndata:")
    ended = package("api.jobs.show_job").sync(job.id, client=client)
    assert (ended.state, ended.indexed, ended.failed) == ("done", 1, 1)
    items = package("api.jobs.list_job_items")
    failed = items.sync(job.id, client=client, state=items.ListJobItemsState.FAILED)
    assert [item.url for item in failed.items] == [host.url("status/404")]


def test_lists_of_a_query_string(client: Any, server: Server, host: ImageHost) -> None:
    outcomes = server.upsert([host.url(f"seed/{seed}.png") for seed in range(3)])
    ids = [outcome["id"] for outcome in outcomes]
    facets = package("api.search.list_facets")
    assert facets.sync(client=client, box=[-10.0, -10.0, 10.0, 10.0]).total == 0
    formats = facets.sync(client=client, formats=["JPEG", "PNG"])
    assert formats.total == 3
    deleted = package("api.images.delete_images").sync(client=client, ids=ids[:2])
    assert deleted.deleted == 2


def test_a_problem(client: Any, server: Server) -> None:
    answer = package("api.jobs.show_job").sync_detailed(999, client=client)
    assert answer.status_code == 404
    assert answer.parsed.type_ == "/docs#not-found"
