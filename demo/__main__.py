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
from app.settings import Settings, read_settings
from app.web.serving import serve

# Photos and scans of a fair size; the rest of what the wheels carry are test patterns and second
# views of the same thing (gravel is so like grass that the built-in encoder takes it for a copy).
SAMPLES = {
    "skimage/data": {
        "astronaut.png": (
            "An astronaut",
            "A woman in an orange suit before a flag",
            "person space",
        ),
        "brick.png": ("A brick wall", "", "texture"),
        "camera.png": ("A man with a camera", "A photographer on a lawn", "person"),
        "chelsea.png": ("Chelsea the cat", "A ginger cat from near by", "animal"),
        "coffee.png": ("A cup of coffee", "With a spoon on a wooden table", "food"),
        "coins.png": ("Old coins", "Greek coins in rows", "things"),
        "color.png": ("Colours", "", "drawing"),
        "grass.png": ("Grass", "", "texture"),
        "horse.png": ("A horse", "The outline of a horse", "animal drawing"),
        "hubble_deep_field.jpg": ("The deep field", "Galaxies seen from orbit", "space"),
        "ihc.png": ("Stained tissue", "Under a microscope", "medicine"),
        "moon.png": ("The moon", "Craters on its surface", "space"),
        "motorcycle_left.png": ("A motorcycle", "In a garage", "things"),
        "page.png": ("A page of a book", "", "text"),
        "retina.jpg": ("A retina", "The back of an eye", "medicine"),
        "rocket.jpg": ("A rocket", "On its launch pad by night", "space"),
        "text.png": ("Handwriting", "", "text"),
    },
    "sklearn/datasets/images": {
        "china.jpg": ("A temple", "A palace with a red roof", "building"),
        "flower.jpg": ("A flower", "A dahlia in pink and yellow", "plant"),
    },
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


def described(address: str, name: str) -> dict[str, object]:
    """Return a sample photo as the API takes it."""
    title, description, tags = next(said[name] for said in SAMPLES.values() if name in said)
    url = f"{address}/samples/{name}"
    return {"url": url, "title": title, "description": description, "tags": tags.split()}


async def index(address: str, *, photos: dict[str, Path]) -> None:
    """Post the photos, and tell what can be tried now."""
    images = [described(address, name) for name in photos]
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(f"{address}/api/upsert", json={"images": images})
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
