from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import pytest
from PIL import Image
from skimage import data

from app.encoding.encoder import Encoder
from app.faces.face import Level
from app.faces.finder import FaceFinder
from app.settings import Settings
from app.web.server import create_app
from tests.conftest import Server, client_of, opened
from tests.faces_setup import DATA_DIR
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode, photo

Opened = Callable[..., AbstractContextManager[Server]]


@cache
def _finder(level: Level) -> FaceFinder:
    return FaceFinder(DATA_DIR, level)


@pytest.fixture
def finder() -> Callable[[Level], FaceFinder]:
    return _finder


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def cameraman() -> Image.Image:
    return Image.fromarray(data.camera()).convert("RGB")


def linked(settings: Settings) -> Settings:
    """Return settings whose data directory has the models."""
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / "models").symlink_to(DATA_DIR / "models")
    return settings


@pytest.fixture
def server_with(settings: Settings, loop: Loop, encoder: Encoder) -> Opened:
    """A function that serves the test's database with these settings."""
    linked(settings)

    @contextmanager
    def serving(**changed: Any) -> Generator[Server]:
        wanted = settings.model_copy(update=changed)
        with (
            opened(wanted, loop, encoder) as lookalike,
            loop.serving(create_app(lookalike)) as address,
            client_of(address) as client,
        ):
            yield Server(address, client, lookalike)

    return serving


@pytest.fixture
def portrait(host: ImageHost, astronaut: Image.Image) -> str:
    return host.add("astronaut.png", encode(astronaut))


@pytest.fixture
def stranger(host: ImageHost) -> str:
    return host.add("stranger.png", encode(photo(3)))
