"""Hashes in eight orientations, which are made from one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.pictures.decoding import Picture, decode
from app.pictures.phash import keys, near_keys, orientations, phash
from app.pictures.thumbnails import phash_of
from tests.samples import encode, photo

quickly = settings(max_examples=50, deadline=None, derandomize=True, database=None)
hashes = st.integers(-(2**63), 2**63 - 1)


def turned(image: Image.Image) -> list[Image.Image]:
    """An image in its eight orientations."""
    pixels = np.asarray(image)
    sides = (pixels, pixels[:, ::-1])
    return [Image.fromarray(np.rot90(side, turns)) for side in sides for turns in range(4)]


def distance(one: int, other: int) -> int:
    """In how many bits two hashes differ, in the orientation in which they are nearest."""
    return min(((one ^ turn) & (2**64 - 1)).bit_count() for turn in orientations(other))


@pytest.mark.parametrize("seed", range(8))
def test_the_hashes_of_a_turned_image_are_made_without_its_pixels(seed: int) -> None:
    image = photo(seed, (64, 64))
    expected = [phash(each) for each in turned(image)]
    made = orientations(phash(image))
    assert made[0] == expected[0]
    assert len(set(made)) == 8
    assert sorted(made) == sorted(expected)


@quickly
@given(hashes)
def test_orientations_are_a_group_and_have_the_same_keys(value: int) -> None:
    assert orientations(value)[0] == value
    for turn in orientations(value):
        assert sorted(orientations(turn)) == sorted(orientations(value))
        assert keys(turn) == keys(value)
        assert near_keys(turn) == near_keys(value)


@quickly
@given(hashes, st.sets(st.integers(0, 63), max_size=8), st.integers(0, 7))
def test_what_differs_in_eight_bits_has_a_key_near_by(
    value: int, bits: set[int], orientation: int
) -> None:
    changed = (value ^ sum(1 << bit for bit in bits)) & (2**64 - 1)
    other = orientations(changed - 2**64 if changed >= 2**63 else changed)[orientation]
    assert distance(value, other) <= len(bits)
    for one, two in ((value, other), (other, value)):
        assert any(key in near for key, near in zip(keys(one), near_keys(two), strict=True))


def test_strangers_differ_and_copies_do_not() -> None:
    values = [phash(photo(seed)) for seed in range(20)]
    for place, value in enumerate(values):
        assert all(distance(value, other) > 10 for other in values[:place])
    small = photo(3).resize((90, 60)).convert("L").convert("RGB")
    for copy in turned(small):
        assert distance(phash(copy), values[3]) <= 6


def test_a_thumbnail_has_the_hash_of_its_picture() -> None:
    picture = decode(encode(photo(5, (700, 400))), max_pixels=10**7)
    assert isinstance(picture, Picture)
    assert distance(phash_of(picture.thumbnail), picture.facts().phash or 0) <= 2
