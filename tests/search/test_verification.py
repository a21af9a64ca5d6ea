"""A match is proved: copies with the map that made them, strangers not at all."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from app.pictures.keypoints import Keypoints
from app.pictures.views import View
from app.search.verification import Verified, compared_whole, verify
from tests.samples import encode, photo
from training.measuring.hard_negatives import MAKERS
from training.measuring.transformations import WORDS

SIZE = (360, 300)


def stored(image: Image.Image) -> View:
    """An image as the index has it: its keypoints as bytes, its thumbnail as a JPEG."""
    view = View.of(image)
    keypoints = Keypoints.from_bytes(view.keypoints.to_bytes())
    assert keypoints is not None
    thumbnail = encode(Image.fromarray(view.pixels().pixels), "JPEG", quality=85)
    return View(view.width, view.height, keypoints, thumbnail, view.dhash, view.too_plain)


def verified(query: Image.Image, image: Image.Image) -> Verified | None:
    return verify(View.of(query), stored(image))


def mapped(found: Verified, points: list[tuple[float, float]]) -> np.ndarray:
    matrix = np.array(found.alignment.matrix)
    return np.array(points) @ matrix[:, :2].T + matrix[:, 2]


def assert_maps(
    found: Verified | None, pairs: dict[tuple[float, float], tuple[float, float]]
) -> None:
    """It is a copy, and its map puts the query's points within two pixels of the image's."""
    assert found is not None
    assert found.match == "copy"
    rest = mapped(found, list(pairs)) - np.array(list(pairs.values()))
    assert np.abs(rest).max() < 2


@pytest.mark.parametrize("seed", range(3))
def test_an_image_is_its_own_copy_and_lies_where_it_is(seed: int) -> None:
    image = photo(seed, SIZE)
    found = verified(image, image)
    assert_maps(found, {(0, 0): (0, 0), (360, 0): (360, 0), (360, 300): (360, 300)})
    assert found is not None
    alignment = found.alignment
    assert alignment.query_overlap == pytest.approx(1, abs=0.02)
    assert alignment.image_overlap == pytest.approx(1, abs=0.02)
    assert alignment.rotation == pytest.approx(0, abs=0.5)
    assert alignment.scale == pytest.approx(1, abs=0.01)
    assert not alignment.mirrored
    assert not alignment.edited
    assert alignment.differences == ()


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_a_copy_and_tells_its_place(seed: int) -> None:
    image = photo(10 + seed, SIZE)
    x, y = 20 + 30 * seed, 60 - 10 * seed
    crop = image.crop((x, y, x + 220, y + 180))
    found = verified(crop, image)
    assert_maps(found, {(0, 0): (x, y), (220, 180): (x + 220, y + 180)})
    assert found is not None
    assert found.alignment.query_overlap == pytest.approx(1, abs=0.03)
    assert found.alignment.image_overlap == pytest.approx(220 * 180 / (360 * 300), abs=0.03)


def test_a_reduced_image_and_the_larger_one_have_the_scale_between_them() -> None:
    image = photo(20, (720, 600))
    found = verified(image.resize((180, 150)), image)
    assert_maps(found, {(0, 0): (0, 0), (180, 150): (720, 600)})
    assert found is not None
    assert found.alignment.scale == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_images_are_copies(turns: int, mirrored: bool) -> None:
    image = photo(30 + turns, SIZE)
    query = (ImageOps.mirror(image) if mirrored else image).rotate(90 * turns, expand=True)
    found = verified(query, image)
    width, height = query.size
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    # The image's corners, in the same order round, as they lie in the query.
    own = [(0, 0), (360, 0), (360, 300), (0, 300)]
    if mirrored:
        own = [own[i] for i in (1, 0, 3, 2)]
    own = own[turns:] + own[:turns]
    assert_maps(found, dict(zip(corners, own, strict=True)))
    assert found is not None
    assert found.alignment.mirrored == mirrored
    if not mirrored:
        turned = (found.alignment.rotation - 90 * turns + 180) % 360 - 180
        assert turned == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("angle", [7, -25])
def test_an_image_rotated_by_any_angle_is_a_copy(angle: int) -> None:
    image = photo(40, SIZE)
    found = verified(image.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white"), image)
    assert_maps(found, {(180, 150): (180, 150)})
    assert found is not None
    assert found.alignment.rotation == pytest.approx(angle, abs=0.5)


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: image.convert("L").convert("RGB"),
        lambda image: Image.blend(image, Image.new("RGB", image.size), 0.6),
        lambda image: image.filter(ImageFilter.GaussianBlur(6)),
    ],
    ids=["grey", "dark", "blurred"],
)
def test_grey_dark_and_blurred_copies_are_copies_and_not_edited(
    alter: Callable[[Image.Image], Image.Image],
) -> None:
    image = photo(50, SIZE)
    found = verified(alter(image), image)
    assert_maps(found, {(0, 0): (0, 0), (360, 300): (360, 300)})
    assert found is not None
    assert not found.alignment.edited


def test_strangers_are_nothing() -> None:
    views = [View.of(photo(100 + seed, SIZE)) for seed in range(8)]
    found = [verify(a, b) for a in views for b in views if a is not b]
    assert found == [None] * 56


def test_the_same_two_images_always_give_the_same_answer() -> None:
    image = photo(60, SIZE)
    query = image.crop((30, 20, 300, 250)).rotate(5)
    assert verified(query, image) == verified(query, image)


def test_a_caption_makes_an_edited_copy_and_is_told() -> None:
    image = photo(70, SIZE)
    edited = image.copy()
    draw = ImageDraw.Draw(edited)
    draw.rectangle([60, 220, 300, 270], fill="white")
    draw.text((70, 228), "what I found", "black", ImageFont.load_default(30))
    found = verified(edited, image)
    assert found is not None
    assert found.match == "copy"
    assert found.alignment.edited
    [region, *_] = found.alignment.differences
    box = np.array([region.x, region.y, region.x + region.width, region.y + region.height])
    assert np.abs(box * [360, 300, 360, 300] - [60, 220, 300, 270]).max() < 24


def test_the_differences_of_a_mirrored_copy_are_in_the_query_as_it_is() -> None:
    image = photo(71, SIZE)
    edited = ImageOps.mirror(image)
    ImageDraw.Draw(edited).rectangle([10, 20, 90, 110], fill="white")
    found = verified(edited, image)
    assert found is not None
    assert found.alignment.mirrored
    [region, *_] = found.alignment.differences
    assert region.x + region.width / 2 == pytest.approx(50 / 360, abs=0.06)
    assert region.y + region.height / 2 == pytest.approx(65 / 300, abs=0.06)


def test_a_picture_within_another_is_a_copy_with_a_small_overlap() -> None:
    image, ground = photo(80, SIZE), photo(81, (600, 500))
    ground.paste(image, (150, 100))
    found = verified(ground, image)
    assert_maps(found, {(150, 100): (0, 0), (510, 400): (360, 300)})
    assert found is not None
    assert found.alignment.query_overlap == pytest.approx(360 * 300 / (600 * 500), abs=0.04)
    assert found.alignment.image_overlap == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("kind", ["forms", "interfaces", "bursts", "logos", "bricks", "grass"])
def test_images_that_share_much_are_no_copies(kind: str) -> None:
    images = MAKERS[kind](np.random.default_rng(3), 4)
    found = [verified(a, b) for i, a in enumerate(images) for b in images[:i]]
    assert "copy" not in [each and each.match for each in found]


def test_a_burst_is_a_scene() -> None:
    first, second, *_ = MAKERS["bursts"](np.random.default_rng(4), 2)
    found = verified(first, second)
    assert found is not None
    assert found.match == "scene"


def test_memes_of_one_picture_are_edited() -> None:
    first, second = MAKERS["memes"](np.random.default_rng(7), 2)
    found = verified(first, second)
    assert found is not None
    assert found.alignment.edited


@pytest.mark.parametrize("other", ["itself", "another"])
def test_plain_images_prove_nothing(other: str) -> None:
    plain = Image.new("RGB", SIZE, (90, 120, 160))
    image = plain if other == "itself" else Image.new("RGB", SIZE, (200, 120, 160))
    assert verified(plain, image) is None


def test_an_image_of_few_keypoints_is_verified_by_its_pixels() -> None:
    image = Image.new("RGB", SIZE, (30, 60, 120))
    draw = ImageDraw.Draw(image)
    for i in range(6):
        draw.ellipse(
            [20 + 50 * i, 60 + 20 * i, 100 + 50 * i, 140 + 20 * i], fill=(200 - 30 * i, 90, 40)
        )
    soft = image.filter(ImageFilter.GaussianBlur(12))
    found = verified(soft.resize((240, 200)), soft)
    assert_maps(found, {(0, 0): (0, 0), (240, 200): (360, 300)})


def test_thin_and_tiny_images_do_no_harm() -> None:
    tiny = [Image.new("RGB", size, "red") for size in ((1, 1), (1, 4000), (3, 2), (4000, 2))]
    tiny += [photo(90, size) for size in ((5, 5), (400, 12), (12, 400), (30, 30))]
    views = [stored(image) for image in tiny]
    for query in views:
        for image in views:
            found = verify(query, image)
            assert found is None or all(0 <= v <= 1 for v in (found.alignment.query_overlap,))


def test_words_alone_are_no_copy() -> None:
    pages: list[Image.Image] = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        page = Image.new("RGB", SIZE, "white")
        draw = ImageDraw.Draw(page)
        for line in range(9):
            words = " ".join(rng.choice(WORDS, 5))
            draw.text((14, 12 + 31 * line), words, "black", ImageFont.load_default(20))
        pages.append(page)
    found = [verified(a, b) for i, a in enumerate(pages) for b in pages[:i]]
    assert "copy" not in [each and each.match for each in found]


def faint(seed: int) -> Image.Image:
    """A soft picture, in which a displacement of a pixel cannot be seen."""
    return photo(seed, SIZE).filter(ImageFilter.GaussianBlur(9))


@pytest.mark.parametrize("seed", range(120, 124))
def test_what_is_faint_has_not_moved(seed: int) -> None:
    image = faint(seed)
    noise = np.random.default_rng(seed).normal(0, 6, (SIZE[1], SIZE[0], 3))
    pixels = 0.4 * np.asarray(image, np.float32) + 90 + noise
    query = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    found = verified(query, image)
    assert_maps(found, {(0, 0): (0, 0), (360, 300): (360, 300)})


def on_white(*, body: str = "navy", dot: str = "orange", words: str = "Larsson") -> Image.Image:
    """A bottle with a label on a white ground, which is most of the image."""
    image = Image.new("RGB", (420, 420), "white")
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle([150, 110, 270, 400], 22, fill=body)
    draw.rectangle([190, 30, 230, 130], fill=body)
    draw.rectangle([160, 200, 260, 340], fill="white")
    draw.text((166, 210), words, "black", ImageFont.load_default(20))
    draw.text((166, 240), "since 1911", "black", ImageFont.load_default(16))
    draw.ellipse([190, 280, 230, 320], fill=dot)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def test_a_caption_on_a_plain_ground_makes_an_edited_copy() -> None:
    image = on_white()
    captioned = image.copy()
    draw = ImageDraw.Draw(captioned)
    draw.text((14, 330), "summer sale", "red", ImageFont.load_default(64))
    for query, other in ((captioned, image), (image, captioned)):
        found = verified(query, other)
        assert found is not None
        assert (found.match, found.alignment.edited) == ("copy", True)


def test_two_products_of_a_series_are_no_copies() -> None:
    one = on_white(words="Olsson 12", dot="orange")
    for other in (
        on_white(words="Lindgren", dot="orange"),
        on_white(words="Olsson 12", dot="green"),
    ):
        found = verified(one, other)
        assert found is None or found.match == "scene"


def test_an_image_of_other_colours_is_a_copy_unless_one_thing_in_it_has_others() -> None:
    image = photo(130, SIZE)
    hue, saturation, value = image.convert("HSV").split()

    def turned(where: tuple[int, int, int, int]) -> Image.Image:
        changed = hue.copy()
        changed.paste(hue.crop(where).point(lambda v: (v + 90) % 256), where[:2])
        return Image.merge("HSV", (changed, saturation, value)).convert("RGB")

    assert_maps(verified(turned((0, 0, *SIZE)), image), {(0, 0): (0, 0), (360, 300): (360, 300)})
    part = verified(turned((60, 60, 150, 150)), image)
    assert part is not None
    assert part.alignment.edited
    [region, *_] = part.alignment.differences
    box = np.array([region.x, region.y, region.x + region.width, region.y + region.height])
    assert np.abs(box * [360, 300, 360, 300] - [60, 60, 150, 150]).max() < 30


def test_another_thing_before_the_same_ground_is_no_copy() -> None:
    ground = photo(140, (500, 400))
    shown: list[Image.Image] = []
    for seed in (141, 142):
        image = ground.copy()
        image.paste(photo(seed, (300, 280)), (100, 60))
        shown.append(image)
    found = verified(*shown)
    assert found is not None
    assert found.match == "scene"


@pytest.mark.parametrize("angle", [0, 10])
def test_a_drawing_of_few_corners_is_found_in_its_crop(angle: int) -> None:
    image = Image.new("RGB", (480, 400), (10, 120, 120))
    draw = ImageDraw.Draw(image)
    for i in range(5):
        draw.ellipse(
            [30 + 70 * i, 40 + 45 * i, 190 + 70 * i, 150 + 45 * i], fill=(250, 190, 40 * i)
        )
        draw.line([0, 90 * i, 480, 380 - 80 * i], fill=(20, 40 * i, 80), width=9)
    crop = image.crop((40, 30, 450, 370)).rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    found = verified(crop, image)
    assert found is not None
    assert found.match == "copy"


def gradient(seed: int) -> Image.Image:
    """A soft picture that is lighter on the left, with waves of its own."""
    rng = np.random.default_rng(seed)
    x, y = np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1])[:, None]
    grey = 230 - 150 * x + 30 * np.sin(2 * np.pi * (y + rng.uniform())) * x
    grey += 12 * np.sin(2 * np.pi * (rng.uniform(1.2, 2) * x + rng.uniform() * y))
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, 9), (3, 5), (3, 12)])
def test_gradients_in_one_direction_are_no_copies(one: int, other: int) -> None:
    found = compared_whole(View.of(gradient(one)), stored(gradient(other)))
    assert found is not None
    assert found.match is None
    same = compared_whole(View.of(gradient(one).resize((180, 150))), stored(gradient(one)))
    assert same is not None
    assert same.match == "copy"


def test_words_on_a_plain_sky_make_an_edited_copy() -> None:
    """What is plain in one of the two says little, where the rest agrees."""
    image = Image.new("RGB", SIZE, (120, 160, 220))
    image.paste(photo(150, (360, 110)), (0, 190))
    captioned = image.copy()
    draw = ImageDraw.Draw(captioned)
    for line, words in enumerate(("look what I", "found today", "best price")):
        draw.text((8, 8 + 62 * line), words, "black", ImageFont.load_default(46))
    for query, other in ((captioned, image), (image, captioned)):
        found = verified(query, other)
        assert found is not None
        assert (found.match, found.alignment.edited) == ("copy", True)


def with_a_small_thing(seed: int) -> Image.Image:
    """A soft picture with a few corners in a small part."""
    image = faint(seed)
    image.paste(photo(seed, (44, 36)), (150, 120))
    return image


@pytest.mark.parametrize("seed", range(160, 163))
def test_a_copy_may_have_its_corners_in_a_small_part_if_all_of_it_agrees(seed: int) -> None:
    image = with_a_small_thing(seed)
    found = verified(image.crop((20, 10, 350, 290)).resize((300, 254)), image)
    assert_maps(found, {(0, 0): (20, 10), (300, 254): (350, 290)})


def test_a_small_thing_before_other_grounds_is_no_copy() -> None:
    one, other = with_a_small_thing(170), faint(171)
    other.paste(photo(170, (44, 36)), (150, 120))
    found = verified(one, other)
    assert found is None or found.match == "scene"
