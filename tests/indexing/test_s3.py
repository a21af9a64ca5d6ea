"""Thumbnails and uploads in S3, as a server on loopback speaks it."""

from collections.abc import Generator

import httpx
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from app.encoding.encoder import Encoder
from app.indexing import thumbnail_files
from app.indexing.thumbnail_mover import Moving
from app.settings import Settings
from app.store.images import Entry
from app.web.server import create_app
from tests.conftest import Server, client_of, opened
from tests.image_host import ImageHost
from tests.indexing.test_thumbnails import index, keys, move
from tests.live import Loop
from tests.samples import altered, png

pytestmark = pytest.mark.slow

BUCKET = "images"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Generator[ThreadedMotoServer]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(BUCKET)
    yield server
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def server(
    settings: Settings, s3: ThreadedMotoServer, loop: Loop, encoder: Encoder
) -> Generator[Server]:
    changed = {"media_url": f"s3://{BUCKET}/some/folder", "thumbnails": "auto"}
    changed |= {"thumbnail_redirects": True}
    with (
        opened(settings.model_copy(update=changed), loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


def stored() -> list[str]:
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.invalidate_cache()
    found = files.find(f"{BUCKET}/some/folder/thumbnails")
    return sorted(path.rpartition("/")[2].removesuffix(".jpg") for path in found)


def test_a_bucket_holds_thumbnails_and_uploads(
    server: Server,
    loop: Loop,
    host: ImageHost,
    s3: ThreadedMotoServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookalike = server.lookalike
    assert lookalike.thumbnails.place == "media"
    assert server.client.get("/readyz").status_code == 200
    urls = [host.add(f"{number}.png", png(number)) for number in range(3)]
    index(lookalike, loop, urls)
    uploaded = server.client.post("/api/images", files={"file": ("one.png", png(5))})
    assert uploaded.status_code == 200, uploaded.text
    assert stored() == keys(lookalike, loop)
    assert len(stored()) == 4
    assert server.search(altered(png(1)))[0]["match"] == "copy"

    # A signed URL is all that a browser needs.
    sent = server.client.get(f"/images/{Entry(urls[0]).id}/thumbnail")
    assert sent.status_code == 307
    loaded = httpx.get(sent.headers["location"], trust_env=False)
    assert loaded.content == (loop.run(lookalike.catalog.thumbnail(Entry(urls[0]).id)) or "")[1]

    assert server.client.delete(f"/api/images/{Entry(urls[2]).id}").status_code == 204
    assert stored() == keys(lookalike, loop)
    assert move(lookalike, loop, "database") == Moving(3, 0)
    assert stored() == []
    assert move(lookalike, loop, "media") == Moving(3, 0)
    assert stored() == keys(lookalike, loop)

    # Nothing answers any more.
    monkeypatch.setattr(thumbnail_files, "MOMENT_S", 0.2)
    lookalike.thumbnails.files._cached.clear()
    s3.stop()
    found = server.search(altered(png(1)), min_similarity=0.5)
    assert found[0]["url"] == urls[1]
