"""Edits of what is said of images: of many at once, each as its row has it by then."""

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from app.indexing.requests import (
    MAX_DESCRIPTION,
    MAX_TAG,
    MAX_TAGS,
    MAX_TITLE,
    RequestModel,
)
from app.problems import InvalidRequest
from app.store.images import Entry, ImageRow

_LONGEST = {"title": MAX_TITLE, "description": MAX_DESCRIPTION}
# Between what an image has and what is added.
_BETWEEN = {"title": " ", "description": "\n"}


class Edit(RequestModel):
    """What is to become of a field: it is `set`, or something is added to it or removed from it.

    Of `tags`, `text` has some, separated by commas. From titles and descriptions, `text` is removed
    wherever it stands.
    """

    field: Literal["title", "description", "tags"]
    how: Literal["set", "add", "remove"]
    text: str = ""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.text.strip() and self.how != "set":
            raise ValueError(f"enter what to {self.how}")
        if self.field == "tags" and any(len(tag) > MAX_TAG for tag in self._tags):
            raise ValueError(f"a tag has at most {MAX_TAG} characters")
        return self

    def of(self, image: ImageRow) -> Entry:
        """Return the image's entry with only this field changed; raises `InvalidRequest`."""
        if self.field == "tags":
            return Entry(image.url, tags=self._changed_tags(image.tags))
        changed = self._changed(image.title if self.field == "title" else image.description)
        if len(changed) > _LONGEST[self.field]:
            raise InvalidRequest(f"{self.field}: at most {_LONGEST[self.field]:,} characters.")
        if self.field == "title":
            return Entry(image.url, title=changed)
        return Entry(image.url, description=changed)

    @property
    def _tags(self) -> list[str]:
        return [tag for part in self.text.split(",") if (tag := part.strip())]

    def _changed_tags(self, tags: Sequence[str]) -> list[str]:
        match self.how:
            case "set":
                changed = self._tags
            case "add":
                changed = [*tags, *self._tags]
            case "remove":
                removed = {tag.casefold() for tag in self._tags}
                changed = [tag for tag in tags if tag.casefold() not in removed]
        if len(changed := list(dict.fromkeys(changed))) > MAX_TAGS:
            raise InvalidRequest(f"tags: at most {MAX_TAGS} are allowed.")
        return changed

    def _changed(self, value: str) -> str:
        text = self.text.strip()
        match self.how:
            case "set":
                return text
            case "add":
                return f"{value}{_BETWEEN[self.field]}{text}" if value else text
            case "remove":
                # Between two words, one of the blanks goes with it.
                removed = re.escape(text)
                return re.sub(f"(?<= ){removed} |{removed}", "", value).strip()
