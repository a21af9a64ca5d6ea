"""Edits of what is said of images."""

import pytest

from app.indexing.edits import Edit
from tests.search.test_hits import image


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("a red boat", "a boat"),
        ("red boat", "boat"),
        ("a boat, red", "a boat,"),
        ("infrared light", "infra light"),
        ("a red\nboat", "a\nboat"),
        ("two  spaces", "two  spaces"),
    ],
)
def test_what_is_removed_leaves_no_gap(title: str, left: str) -> None:
    edit = Edit(field="title", how="remove", text="red")
    assert edit.of(image(1, title=title)).title == left
