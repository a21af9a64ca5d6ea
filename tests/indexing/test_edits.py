"""Edits of what is said of images."""

from typing import Any

import pytest
from pydantic import ValidationError

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


@pytest.mark.parametrize(
    ("how", "text", "left"),
    [
        ("set", "price=12.5\nsku = 00123", {"price": 12.5, "sku": "00123"}),
        ("add", "price=3\n\nshelf=a=b", {"price": 3, "colour": "red", "shelf": "a=b"}),
        ("remove", "price", {"colour": "red"}),
        ("remove", "price=8\ncolour=red", {"price": 7}),
        ("set", "", {}),
    ],
)
def test_metadata_is_edited_by_line(how: Any, text: str, left: dict[str, object]) -> None:
    edit = Edit(field="metadata", how=how, text=text)
    changed = edit.of(image(1, metadata={"price": 7, "colour": "red"})).metadata
    assert changed == left
    assert [type(value) for value in (changed or {}).values()] == [type(v) for v in left.values()]


@pytest.mark.parametrize("text", ["price", "=3", "price=", "k" * 101 + "=1", "k=" + "v" * 201])
def test_metadata_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Edit(field="metadata", how="add", text=text)
