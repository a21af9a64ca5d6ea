"""Keypoints: compact, the same from either side of a mirror, and found again after storing."""

import threading

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.pictures.keypoints import (
    LONGEST_SIDE,
    MOST_KEYPOINTS,
    VERSION,
    Keypoints,
    find_keypoints,
    working_size,
)
from app.pictures.tiles import TILES, tiles
from app.pictures.views import View
from app.search.verification import verify
from tests.samples import photo


def nearest(a: Keypoints, b: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """For each of a's keypoints, how far b's nearest is that has its angle, and which it is."""
    distance = np.linalg.norm(a.places[:, None] - b.places[None], axis=2)
    turn = np.abs((a.angles[:, None] - b.angles[None] + np.pi) % (2 * np.pi) - np.pi)
    distance = np.where(turn < 0.2, distance, np.inf)
    return distance.min(axis=1), distance.argmin(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_compact_and_keep_what_matters(seed: int) -> None:
    found = find_keypoints(photo(seed))
    data = found.to_bytes()
    assert len(data) <= 10_000
    again = Keypoints.from_bytes(data)
    assert again is not None
    assert (again.width, again.height, len(again)) == (found.width, found.height, len(found))
    assert np.abs(again.places - found.places).max() < 0.01
    assert np.abs(np.log(again.sizes / found.sizes)).max() < 0.02
    cosines = (again.descriptors * found.descriptors).sum(axis=1)
    assert np.median(cosines) > 0.98
    assert len(again.to_bytes()) == len(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", bytes([VERSION + 1]) + bytes(36), bytes([VERSION]) + bytes(30)],
    ids=["nothing", "a header's start", "another version", "too long"],
)
def test_bytes_of_another_version_or_length_are_none(data: bytes) -> None:
    assert Keypoints.from_bytes(data) is None


def test_truncated_bytes_are_none() -> None:
    data = find_keypoints(photo(1)).to_bytes()
    assert all(Keypoints.from_bytes(data[:length]) is None for length in (6, 7, 36, len(data) - 1))


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_keypoints_are_those_of_the_mirrored_image(seed: int) -> None:
    image = photo(seed, (300, 240))
    computed, found = find_keypoints(image).mirrored(), find_keypoints(ImageOps.mirror(image))
    distance, which = nearest(computed, found)
    same = distance < 0.5
    assert same.mean() > 0.8
    cosines = (computed.descriptors * found.descriptors[which]).sum(axis=1)
    assert np.median(cosines[same]) > 0.99


def test_mirrored_twice_is_as_before() -> None:
    found = find_keypoints(photo(4))
    again = found.mirrored().mirrored()
    assert np.abs(again.places - found.places).max() < 1e-3
    assert np.array_equal(again.descriptors, found.descriptors)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 3), (40, 4000)])
def test_any_size_has_keypoints_or_none(size: tuple[int, int]) -> None:
    found = find_keypoints(Image.new("RGB", size, "red"))
    assert max(found.width, found.height) <= LONGEST_SIDE
    assert Keypoints.from_bytes(found.to_bytes()) is not None


def test_the_working_size_keeps_the_aspect_ratio() -> None:
    assert working_size((640, 480)) == (256, 192)
    assert working_size((4000, 1000)) == (480, 120)


def test_threads_have_detectors_of_their_own() -> None:
    images = [photo(seed) for seed in range(4)]
    alone = [find_keypoints(image).to_bytes() for image in images]
    together: list[bytes | None] = [None] * 8
    begin = threading.Barrier(8)

    def find(place: int) -> None:
        begin.wait()
        together[place] = find_keypoints(images[place % 4]).to_bytes()

    threads = [threading.Thread(target=find, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone * 2


def test_there_are_never_more_than_the_most() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    image = Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC)
    assert len(find_keypoints(image)) == MOST_KEYPOINTS


def test_a_tile_finds_a_small_picture_and_tells_its_place_in_the_whole() -> None:
    small, page = photo(5, (180, 150)), Image.new("RGB", (800, 640), "white")
    page.paste(photo(6, (400, 640)), (400, 0))
    page.paste(small, (120, 60))
    image = View.of(photo(5, (360, 300)))
    found = [verify(tile.look(), image) for tile in tiles(page, View.of(page))]
    [best, *_] = [each for each in found if each is not None and each.match == "copy"]
    corners = np.array([[120, 60], [300, 210]]) @ np.array(best.alignment.matrix)[:, :2].T
    corners += np.array(best.alignment.matrix)[:, 2]
    assert np.abs(corners - [[0, 0], [360, 300]]).max() < 6
    assert best.alignment.query_overlap == pytest.approx(180 * 150 / (800 * 640), rel=0.15)


def test_tiles_cover_the_image() -> None:
    assert len(TILES) == 9
    cut = tiles(photo(7, (321, 243)), View.of(photo(7, (321, 243))))
    assert {tile.image.size for tile in cut} <= {(160, 122), (161, 122), (160, 121), (161, 121)}
