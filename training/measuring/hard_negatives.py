"""Images that are not copies of each other, although much of them is the same.

Each set is made procedurally and is the same for the same seed. Every image of a set is another one
than all the others in it: whoever calls two of them copies is wrong, except for memes, which share
their picture, and are right to be called edited.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.data.procedural import LETTERS, dead_leaves, fractal_noise
from training.measuring.transformations import WORDS, as_jpeg

Maker = Callable[[np.random.Generator, int], list[Image.Image]]

Colour = tuple[int, int, int]
# Of each set, so many series of so many images.
SERIES, MEMBERS = 5, 8
SIZE = (400, 320)


def hard_negatives(seed: int = 11) -> dict[str, list[list[Image.Image]]]:
    """Return for each kind its series of images."""
    sets: dict[str, list[list[Image.Image]]] = {}
    for number, (name, make) in enumerate(MAKERS.items()):
        rng = np.random.default_rng([seed, number])
        sets[name] = [[as_jpeg(i, 85) for i in make(rng, MEMBERS)] for _ in range(SERIES)]
    return sets


def _memes(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show one picture under different words."""
    picture = _picture(rng, SIZE)
    made: list[Image.Image] = []
    for _ in range(count):
        meme = picture.copy()
        draw = ImageDraw.Draw(meme)
        for y in (8, SIZE[1] - 48):
            font = ImageFont.load_default(34)
            words = _words(rng, int(rng.integers(2, 5))).upper()
            draw.text((14, y), words, "white", font, stroke_width=3, stroke_fill="black")
        made.append(meme)
    return made


def _products(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show bottles of one make on white, each with a label and a colour of its own."""
    shoulder, neck = int(rng.integers(90, 130)), int(rng.integers(20, 34))
    made: list[Image.Image] = []
    for _ in range(count):
        image = Image.new("RGB", (320, 400), "white")
        draw = ImageDraw.Draw(image)
        body = _colour(rng)
        draw.rounded_rectangle([80, shoulder, 240, 380], 22, fill=body)
        draw.rectangle([160 - neck, 30, 160 + neck, shoulder + 20], fill=body)
        draw.rectangle([156 - neck, 18, 164 + neck, 48], fill=(40, 40, 44))
        draw.rectangle([94, 190, 226, 330], fill="white")
        draw.text((104, 200), "Larsson & Co", "black", ImageFont.load_default(19))
        draw.text((104, 240), _words(rng, 1).title(), _colour(rng), ImageFont.load_default(27))
        draw.text((104, 280), _words(rng, 2), "black", ImageFont.load_default(15))
        draw.ellipse([180, 296, 216, 324], fill=_colour(rng))
        made.append(image.filter(ImageFilter.GaussianBlur(0.7)))
    return made


def _interfaces(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show screens of one program with different contents."""
    accent, dark = _colour(rng), rng.random() < 0.5
    ground, ink = ((24, 24, 28), (220, 220, 220)) if dark else ((250, 250, 250), (40, 40, 40))
    menu = [_words(rng, 1) for _ in range(6)]
    made: list[Image.Image] = []
    for _ in range(count):
        screen = Image.new("RGB", (560, 400), ground)
        draw = ImageDraw.Draw(screen)
        draw.rectangle([0, 0, 560, 40], fill=accent)
        draw.text((14, 9), "Lookbook", "white", ImageFont.load_default(20))
        for i, word in enumerate(menu):
            draw.rectangle([12, 60 + 44 * i, 32, 80 + 44 * i], fill=accent)
            draw.text((42, 60 + 44 * i), word, ink, ImageFont.load_default(16))
        draw.line([130, 40, 130, 400], fill="grey", width=2)
        for row in range(3):
            for column in range(2):
                x, y = 150 + 200 * column, 56 + 112 * row
                screen.paste(_picture(rng, (90, 70)), (x, y))
                draw.text((x, y + 76), _words(rng, 2), ink, ImageFont.load_default(14))
                draw.text((x + 96, y + 10), _words(rng, 1), ink, ImageFont.load_default(13))
        made.append(screen)
    return made


def _forms(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show one printed form, filled in differently, scanned a little askew."""
    labels = [_words(rng, 2).title() for _ in range(12)]
    made: list[Image.Image] = []
    for _ in range(count):
        page = Image.new("RGB", (480, 640), (252, 251, 247))
        draw = ImageDraw.Draw(page)
        draw.text((40, 28), "Application form", "black", ImageFont.load_default(30))
        for i, label in enumerate(labels):
            y = 90 + 44 * i
            draw.text((40, y), label, (30, 30, 30), ImageFont.load_default(15))
            draw.line([190, y + 24, 440, y + 24], fill=(120, 120, 120), width=1)
            written = "".join(rng.choice(list(LETTERS), int(rng.integers(8, 18))))
            draw.text((196, y + 1), written, (20, 30, 120), ImageFont.load_default(19))
        angle = float(rng.uniform(-1, 1))
        made.append(page.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(252, 251, 247)))
    return made


def _bursts(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show one scene from places on a small circle: what is nearer moves further."""
    far = _picture(rng, (SIZE[0] + 60, SIZE[1] + 60))
    things = []
    for _ in range(14):
        side = int(rng.integers(50, 130))
        piece = _picture(rng, (side, int(side * rng.uniform(0.7, 1.4))))
        mask = Image.new("L", piece.size, 0)
        ImageDraw.Draw(mask).ellipse([0, 0, piece.width - 1, piece.height - 1], fill=255)
        place = rng.uniform(0, 1, 2) * (SIZE[0] - side / 2, SIZE[1] - side / 2)
        things.append((piece, mask, place, rng.uniform(0.2, 1)))
    made: list[Image.Image] = []
    for angle in np.arange(count) * 2 * np.pi / count:
        moved = 14 * np.array([np.cos(angle), np.sin(angle)])
        corner = 30 + moved * 0.1
        frame = far.crop(tuple(int(v) for v in (*corner, corner[0] + SIZE[0], corner[1] + SIZE[1])))
        for piece, mask, place, nearness in things:
            x, y = (place - moved * nearness).round().astype(int)
            frame.paste(piece, (int(x), int(y)), mask)
        made.append(_with_noise(rng, frame))
    return made


def _logos(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show one logo on different things."""
    side = 150
    logo = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(logo)
    one, other = _colour(rng), _colour(rng)
    draw.ellipse([4, 4, side - 4, side - 4], fill=one)
    corners = [tuple(rng.uniform(25, side - 25, 2).tolist()) for _ in range(7)]
    draw.polygon(corners, fill=other)
    draw.text((20, side / 2), "LARSSON", "white", ImageFont.load_default(26))
    made: list[Image.Image] = []
    for _ in range(count):
        thing = _picture(rng, SIZE)
        scale = rng.uniform(0.5, 0.95)
        small = logo.resize((round(side * scale), round(side * scale)))
        x, y = rng.uniform(0, 1, 2) * (SIZE[0] - small.width, SIZE[1] - small.height)
        thing.paste(small, (int(x), int(y)), small)
        made.append(thing)
    return made


def _bricks(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show walls of the same bricks."""
    height, width = int(rng.integers(20, 34)), int(rng.integers(48, 80))
    brick, mortar = _colour(rng), (205, 200, 192)
    made: list[Image.Image] = []
    for _ in range(count):
        wall = Image.new("RGB", SIZE, mortar)
        draw = ImageDraw.Draw(wall)
        shift_x, shift_y = rng.uniform(0, width), rng.uniform(0, height)
        for row in range(-1, SIZE[1] // height + 2):
            for column in range(-2, SIZE[0] // width + 2):
                x = column * width + (row % 2) * width / 2 - shift_x + width
                y = row * height - shift_y
                tint = tuple(int(np.clip(v + rng.normal(0, 14), 0, 255)) for v in brick)
                draw.rectangle([x, y, x + width - 4, y + height - 4], fill=tint)
        made.append(_with_noise(rng, wall))
    return made


def _grass(rng: np.random.Generator, count: int) -> list[Image.Image]:
    """Show lawns of the same grass."""
    made: list[Image.Image] = []
    for _ in range(count):
        lawn = Image.new("RGB", SIZE, (40, 70, 30))
        draw = ImageDraw.Draw(lawn)
        for _ in range(2500):
            x, y = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1] + 20)
            green = (int(rng.integers(30, 110)), int(rng.integers(90, 200)), 40)
            tip = (x + rng.normal(0, 5), y - rng.uniform(8, 24))
            draw.line([(x, y), tip], fill=green, width=int(rng.integers(1, 3)))
        made.append(lawn)
    return made


MAKERS: dict[str, Maker] = {
    "memes": _memes,
    "products": _products,
    "interfaces": _interfaces,
    "forms": _forms,
    "bursts": _bursts,
    "logos": _logos,
    "bricks": _bricks,
    "grass": _grass,
}


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    make = dead_leaves if rng.random() < 0.75 else fractal_noise
    return Image.fromarray(make(rng, max(size))).crop((0, 0, *size))


def _with_noise(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, np.float32) + rng.normal(0, 4, (image.height, image.width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(v) for v in rng.integers(30, 226, 3))
    return red, green, blue


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(WORDS, count))
