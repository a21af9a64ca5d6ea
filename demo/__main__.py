"""`make demo`: index the sample photos of scikit-image and scikit-learn, and serve the pages.

The photos are indexed like any others: this server serves them, and their URLs are posted to it.
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

from app.faces.packages import fetch
from app.problems import NotFound, PortTaken, StartProblem
from app.settings import Settings, read_settings
from app.web.serving import another_port, serve
from demo.copies import COPIES, make_copies

# Photos and scans of a fair size; the other files in these wheels are test patterns and second
# views of the same scene (the built-in encoder takes gravel for a copy of grass).
SAMPLES = {
    "skimage/data": {
        "astronaut.png": (
            "An astronaut",
            "A woman in an orange space suit in front of a flag",
            "person space",
        ),
        "brick.png": ("A brick wall", "", "texture"),
        "camera.png": ("A man with a camera", "A photographer on a lawn", "person"),
        "chelsea.png": ("Chelsea the cat", "Close-up of a ginger cat", "animal"),
        "coffee.png": ("A cup of coffee", "A cup and a spoon on a wooden table", "food"),
        "coins.png": ("Old coins", "Greek coins in rows", "things"),
        "color.png": ("Colours", "", "drawing"),
        "grass.png": ("Grass", "", "texture"),
        "horse.png": ("A horse", "The silhouette of a horse", "animal drawing"),
        "hubble_deep_field.jpg": ("Hubble Deep Field", "Galaxies seen from orbit", "space"),
        "ihc.png": ("Tissue sample", "Stained tissue under a microscope", "medicine"),
        "moon.png": ("The moon", "Craters on the surface of the moon", "space"),
        "motorcycle_left.png": ("A motorcycle", "A motorcycle in a garage", "things"),
        "page.png": ("A page of a book", "", "text"),
        "retina.jpg": ("A retina", "The back of an eye", "medicine"),
        "rocket.jpg": ("A rocket", "A rocket on its launch pad at night", "space"),
        "text.png": ("Handwriting", "", "text"),
    },
    "sklearn/datasets/images": {
        "china.jpg": ("A temple", "A palace with a red roof", "building"),
        "flower.jpg": ("A flower", "A pink and yellow dahlia", "plant"),
    },
}


def sample_photos() -> dict[str, Path]:
    """Return the paths of the installed sample photos, by file name."""
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


def described(base_url: str, name: str) -> dict[str, object]:
    """Return a sample photo, or a copy of one, as an object of `/api/upsert`."""
    if name in COPIES:
        return {"url": f"{base_url}/samples/{name}", "title": COPIES[name][1], "tags": ["copy"]}
    title, description, tags = next(texts[name] for texts in SAMPLES.values() if name in texts)
    url = f"{base_url}/samples/{name}"
    return {"url": url, "title": title, "description": description, "tags": tags.split()}


async def index(base_url: str, *, photos: dict[str, Path]) -> None:
    """Index the photos, and print what to try next."""
    images = [described(base_url, name) for name in photos]
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(f"{base_url}/api/upsert", json={"images": images})
        answer.raise_for_status()
    statuses = [result["status"] for result in answer.json()["results"]]
    for result in answer.json()["results"]:
        if result["status"] == "failed":
            print(f"failed: {result['url']}: {result['reason']}")
    indexed = len(statuses) - statuses.count("failed")
    print(f"Indexed {indexed} sample photos and altered copies. Open {base_url}")
    print(f"Duplicates: {base_url}/duplicates")
    query = next(iter(photos.values()))
    print(f"or try: curl -F file=@{query} {base_url}/api/query", flush=True)


def demo_settings() -> Settings:
    """Return the settings: a separate data folder, and permission to fetch from this machine."""
    given = read_settings()
    return read_settings(
        data_dir=given.data_dir / "demo", fetch_allow=[*given.fetch_allow, "localhost"]
    )


def main() -> None:
    """Run the demo until Ctrl-C."""
    try:
        settings = demo_settings()
        if settings.faces != "off":
            # Asked for by name, so fetched: 7 MB for boxes, 130 for vectors.
            fetch(settings.data_dir, settings.faces, partial(print, flush=True))
        photos = sample_photos()
        photos |= make_copies(photos, settings.data_dir / "copies")
        asyncio.run(
            serve(
                settings,
                announce=partial(print, flush=True),
                routes=[sample_route(photos)],
                on_ready=partial(index, photos=photos),
            )
        )
    except PortTaken:
        other = another_port(settings.port)
        sys.exit(
            f"lookalike: Port {settings.port} is already in use. Choose another with PORT, "
            f"for example: PORT={other} make demo"
        )
    except StartProblem as problem:
        sys.exit(f"lookalike: {problem.detail}")


if __name__ == "__main__":
    main()
