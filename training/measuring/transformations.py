"""What people do to images, each reproducible with a seed: 20 things, and 4 hard ones."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Transformation = Callable[[Image.Image, np.random.Generator, Image.Image], Image.Image]

WORDS = [
    *("look", "what", "I", "found", "today", "best", "price", "ever", "follow", "for"),
    *("more", "breaking", "news", "summer", "sale"),
]


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return what is left of an image after it was saved as a JPEG."""
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(BytesIO(out.getvalue())).convert("RGB")


def _cropped(image: Image.Image, rng: np.random.Generator, area: float) -> Image.Image:
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    width = min(image.width, round(image.width * np.sqrt(area) * stretch))
    height = min(image.height, round(image.height * np.sqrt(area) / stretch))
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _with_text_overlay(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        size = int(max(8, image.height * rng.uniform(0.08, 0.2)))
        words = " ".join(rng.choice(WORDS, int(rng.integers(2, 5))))
        place = (rng.uniform(0, 0.3) * image.width, rng.uniform(0, 0.85) * image.height)
        color = tuple(int(v) for v in rng.choice([0, 255], 3))
        draw.text(place, words, fill=color, font=ImageFont.load_default(size))
    return image


def _recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shift = int(rng.integers(30, 226))
    turned = hue.point(lambda v: (v + shift) % 256)
    image = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    return ImageEnhance.Color(image).enhance(rng.uniform(0.6, 1.8))


def _pasted(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    scale = rng.uniform(0.5, 0.7)
    background = other.resize(image.size)
    small = image.resize((round(image.width * scale), round(image.height * scale)))
    left = int(rng.integers(0, background.width - small.width + 1))
    top = int(rng.integers(0, background.height - small.height + 1))
    background.paste(small, (left, top))
    return background


def _inset(image: Image.Image, rng: np.random.Generator, other: Image.Image) -> Image.Image:
    """Paste it into a photo at 0.3 of its size, a ninth of the area."""
    background = other.resize(image.size)
    small = ImageOps.scale(image, 0.3)
    left = int(rng.integers(0, background.width - small.width + 1))
    top = int(rng.integers(0, background.height - small.height + 1))
    background.paste(small, (left, top))
    return background


def _meme(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put it between two lines of text on white, with another line on it, and save it small."""
    width, height = image.size
    bar = round(height * 0.22)
    meme = Image.new("RGB", (width + 40, height + 2 * bar + 60), "white")
    meme.paste(image, (20, bar + 20))
    draw = ImageDraw.Draw(meme)
    font = ImageFont.load_default(max(10, bar // 2))
    for y in (10, height + bar + 30):
        draw.text((24, y), " ".join(rng.choice(WORDS, 5)), "black", font)
    words = " ".join(rng.choice(WORDS, 3)).upper()
    font = ImageFont.load_default(max(10, round(height * 0.12)))
    place = (20 + width * 0.1, bar + 20 + height * 0.75)
    draw.text(place, words, "white", font, stroke_width=2, stroke_fill="black")
    return as_jpeg(ImageOps.scale(meme, 2 / 3), 40)


def _narrow(image: Image.Image) -> Image.Image:
    size = (100, max(1, round(100 * image.height / image.width)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _screenshot(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Show the image across a phone's screen, with lines of text above and below."""
    dark = rng.random() < 0.5
    screen = Image.new("RGB", (360, 640), (18, 18, 20) if dark else (250, 250, 250))
    height = min(520, max(180, round(360 * image.height / image.width)))
    top = int(rng.integers(40, 640 - height - 40 + 1))
    screen.paste(image.resize((360, height)), (0, top))
    draw = ImageDraw.Draw(screen)
    for y in (8, top - 26, top + height + 8, 610):
        words = " ".join(rng.choice(WORDS, 3))
        draw.text((12, y), words, fill="grey", font=ImageFont.load_default(16))
    # Crop to the surroundings of the image, as people do.
    margin = int(rng.integers(20, 80))
    return screen.crop((0, max(0, top - margin), 360, min(640, top + height + margin)))


def _covered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 5))):
        width, height = image.width * rng.uniform(0.12, 0.3), image.height * rng.uniform(0.12, 0.3)
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape([left, top, left + width, top + height], fill=color)
    return image


def _perspective(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    w, h = image.size
    d = rng.uniform(0, 0.15, 8)
    corners = (
        d[0] * w,
        d[1] * h,
        d[2] * w,
        h - d[3] * h,
        w - d[4] * w,
        h - d[5] * h,
        w - d[6] * w,
        d[7] * h,
    )
    return image.transform(image.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32) + rng.normal(0, 25, (image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(0.35, 0.6) if rng.random() < 0.5 else rng.uniform(1.5, 2)
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(factor)).enhance(0.8)


def _combined(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image = _cropped(image, rng, rng.uniform(0.5, 0.7))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.3, 1.8))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    image = _with_text_overlay(image, rng)
    image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
    return as_jpeg(image, 25)


def _framed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width = round(min(image.size) * rng.uniform(0.08, 0.2))
    return ImageOps.expand(image, width, tuple(int(v) for v in rng.integers(0, 256, 3)))


def _rotated(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle = 10 if rng.random() < 0.5 else -10
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


TRANSFORMATIONS: dict[str, Transformation] = {
    "0.3x size": lambda image, rng, other: ImageOps.scale(image, 0.3),
    "JPEG 15": lambda image, rng, other: as_jpeg(image, 15),
    "crop to 70%": lambda image, rng, other: _cropped(image, rng, 0.7),
    "crop to 40%": lambda image, rng, other: _cropped(image, rng, 0.4),
    "mirrored": lambda image, rng, other: ImageOps.mirror(image),
    "rotated by 10°": lambda image, rng, other: _rotated(image, rng),
    "rotated by 90°": lambda image, rng, other: image.transpose(Image.Transpose.ROTATE_90),
    "rotated by 180°": lambda image, rng, other: image.transpose(Image.Transpose.ROTATE_180),
    "grey": lambda image, rng, other: image.convert("L").convert("RGB"),
    "recoloured": lambda image, rng, other: _recoloured(image, rng),
    "dark or bright": lambda image, rng, other: _lit(image, rng),
    "blurred": lambda image, rng, other: image.filter(
        ImageFilter.GaussianBlur(min(image.size) * 0.02)
    ),
    "noisy": lambda image, rng, other: _noisy(image, rng),
    "text overlay": lambda image, rng, other: _with_text_overlay(image, rng),
    "framed": lambda image, rng, other: _framed(image, rng),
    "covered": lambda image, rng, other: _covered(image, rng),
    "perspective": lambda image, rng, other: _perspective(image, rng),
    "pasted": lambda image, rng, other: _pasted(image, rng, other),
    "screenshot": lambda image, rng, other: _screenshot(image, rng),
    "combined": lambda image, rng, other: _combined(image, rng),
}

HARD: dict[str, Transformation] = {
    "crop to 20%": lambda image, rng, other: _cropped(image, rng, 0.2),
    "pasted at 0.3": _inset,
    "100 px wide": lambda image, rng, other: _narrow(image),
    "meme": lambda image, rng, other: _meme(image, rng),
}

# What every copy detector should find.
PLAIN = [
    *("0.3x size", "JPEG 15", "crop to 70%", "crop to 40%", "mirrored", "rotated by 10°"),
    *("rotated by 90°", "rotated by 180°", "grey", "recoloured", "dark or bright", "noisy"),
    *("text overlay", "framed"),
]
