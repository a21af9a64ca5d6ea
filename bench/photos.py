"""Photos for the measurements, and a server for them on loopback."""

import multiprocessing
import socket
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.__main__ import sample_photos

SIZE = (640, 480)


def make_photos(number: int) -> list[bytes]:
    """Return JPEGs of 640 x 480: crops of the demo's photos, some of them mirrored."""
    rng = np.random.default_rng(0)
    sources = [Image.open(path).convert("RGB") for path in sample_photos().values()]
    sources = [image.resize((1024, 1024)) for image in sources]
    return [_piece(sources[i % len(sources)], rng) for i in range(number)]


@contextmanager
def serving(photos: list[bytes]) -> Generator[list[str]]:
    """Serve photos from a separate process; yields their URLs."""
    # The protocol is named so that asyncio sets TCP_NODELAY on accepted connections.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(listener, photos), daemon=True
    )
    process.start()
    port = listener.getsockname()[1]
    yield [f"http://127.0.0.1:{port}/{i}.jpg" for i in range(len(photos))]
    process.terminate()
    process.join()
    listener.close()


def _serve(listener: socket.socket, photos: list[bytes]) -> None:
    async def photo(request: Request) -> Response:
        return Response(photos[request.path_params["i"]], media_type="image/jpeg")

    app = Starlette(routes=[Route("/{i:int}.jpg", photo)])
    config = uvicorn.Config(app, log_level="critical", access_log=False)
    uvicorn.Server(config).run([listener])


def _piece(source: Image.Image, rng: np.random.Generator) -> bytes:
    side = int(rng.integers(400, 900))
    x, y = (int(rng.integers(0, 1024 - side)) for _ in range(2))
    piece = source.crop((x, y, x + side, y + side * 3 // 4)).resize(SIZE)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    out = BytesIO()
    piece.save(out, "JPEG", quality=88)
    return out.getvalue()
