"""`make demo`: index the sample photos of scikit-image and scikit-learn, and serve the page.

The photos go the real way: this server serves them on loopback, and their URLs are posted to it.
"""

import asyncio
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from app.problems import NotFound, StartProblem
from app.serving import serve
from app.settings import Settings, read_settings

# Photos and scans of a fair size; the rest of what the wheels carry are test patterns and second
# views of the same thing (gravel is so like grass that the built-in encoder takes it for a copy).
SAMPLES = {
    "skimage/data": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "color.png",
        "grass.png",
        "horse.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "page.png",
        "retina.jpg",
        "rocket.jpg",
        "text.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}


def sample_photos() -> dict[str, Path]:
    """Return the sample photos that are installed, by file name."""
    photos: dict[str, Path] = {}
    for folder, names in SAMPLES.items():
        package, _, below = folder.partition("/")
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            photos |= {name: Path(spec.origin).parent / below / name for name in names}
    return photos


def sample_route(photos: dict[str, Path]) -> Route:
    """Return a route that serves the photos at /samples/NAME."""

    async def sample(request: Request) -> Response:
        path = photos.get(request.path_params["name"])
        if path is None:
            raise NotFound
        return FileResponse(path)

    return Route("/samples/{name}", sample)


async def index(address: str, *, photos: dict[str, Path]) -> None:
    """Post the photos' URLs, and tell what can be tried now."""
    urls = [f"{address}/samples/{name}" for name in photos]
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(f"{address}/api/upsert", json={"images": urls})
        answer.raise_for_status()
    statuses = [result["status"] for result in answer.json()["results"]]
    for result in answer.json()["results"]:
        if result["status"] == "failed":
            print(f"failed: {result['url']}: {result['reason']}")
    print(f"{len(statuses) - statuses.count('failed')} sample photos are indexed. Open {address}")
    query = next(iter(photos.values()))
    print(f"or try: curl -F file=@{query} {address}/api/query", flush=True)


def demo_settings() -> Settings:
    """Return the settings: a folder of its own, and leave to fetch from this machine."""
    given = read_settings()
    return read_settings(
        data_dir=given.data_dir / "demo", fetch_allow=[*given.fetch_allow, "localhost"]
    )


def main() -> None:
    """Run the demo until Ctrl-C."""
    photos = sample_photos()
    try:
        asyncio.run(
            serve(
                demo_settings(),
                announce=partial(print, flush=True),
                routes=[sample_route(photos)],
                on_ready=partial(index, photos=photos),
            )
        )
    except StartProblem as problem:
        sys.exit(f"lookalike: {problem.detail}")


if __name__ == "__main__":
    main()
