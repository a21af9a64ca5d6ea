"""Altered copies of some sample photos, for the demo to find: what people do to pictures."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

# Long sides are kept below this, as those of pictures passed on are.
LONGEST_SIDE = 800


def _cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 6, 0, width * 5 // 6, height * 2 // 3))


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _captioned(image: Image.Image) -> Image.Image:
    captioned = image.copy()
    bar = image.height // 8
    draw = ImageDraw.Draw(captioned)
    draw.rectangle((0, image.height - bar, image.width, image.height), "white")
    font = ImageFont.load_default(bar * 0.6)
    middle = (image.width / 2, image.height - bar / 2)
    draw.text(middle, "three, two, one …", "black", font, anchor="mm")
    return captioned


def _small(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 3, image.height // 3))


COPIES: Mapping[str, tuple[str, str, Callable[[Image.Image], Image.Image]]] = {
    "astronaut-cropped.jpg": ("astronaut.png", "An astronaut, cropped", _cropped),
    "chelsea-mirrored.jpg": ("chelsea.png", "Chelsea the cat, mirrored", ImageOps.mirror),
    "coffee-grey.jpg": ("coffee.png", "A cup of coffee, in grey", _grey),
    "rocket-captioned.jpg": ("rocket.jpg", "A rocket, with a caption", _captioned),
    "china-small.jpg": ("china.jpg", "A temple, smaller", _small),
}
"""By file name: the photo that it is made of, its title, and how it is made."""


def make_copies(photos: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Write the copies of those photos that there are to a folder; return their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    for name, (original, _, change) in COPIES.items():
        if original in photos:
            with Image.open(photos[original]) as photo:
                image = ImageOps.exif_transpose(photo).convert("RGB")
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            data = BytesIO()
            change(image).save(data, "JPEG", quality=85)
            made[name] = folder / name
            made[name].write_bytes(data.getvalue())
    return made
