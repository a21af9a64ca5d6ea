"""Edits of what is said of images: of many at once, each as its row has it by then."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import model_validator

from app.indexing.lists import typed
from app.indexing.requests import (
    MAX_DESCRIPTION,
    MAX_METADATA_KEY,
    MAX_METADATA_KEYS,
    MAX_METADATA_VALUE,
    MAX_TAG,
    MAX_TAGS,
    MAX_TITLE,
    RequestModel,
)
from app.problems import InvalidRequest
from app.store.filters import MetadataValue
from app.store.images import Entry, ImageRow

_LONGEST = {"title": MAX_TITLE, "description": MAX_DESCRIPTION}
# Between what an image has and what is added.
_BETWEEN = {"title": " ", "description": "\n"}


class Edit(RequestModel):
    """What is to become of a field: it is `set`, or something is added to it or removed from it.

    Of `tags`, `text` has some, separated by commas, and of `metadata` a `key=value` per line; to
    remove some, a key is enough. From titles and descriptions, `text` is removed wherever it is.
    """

    field: Literal["title", "description", "tags", "metadata"]
    how: Literal["set", "add", "remove"]
    text: str = ""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.text.strip() and self.how != "set":
            raise ValueError(f"enter what to {self.how}")
        if self.field == "tags" and any(len(tag) > MAX_TAG for tag in self._tags):
            raise ValueError(f"a tag has at most {MAX_TAG} characters")
        if self.field == "metadata":
            self._check_pairs()
        return self

    def of(self, image: ImageRow) -> Entry:
        """Return the image's entry with only this field changed; raises `InvalidRequest`."""
        if self.field == "tags":
            return Entry(image.url, tags=self._changed_tags(image.tags))
        if self.field == "metadata":
            return Entry(image.url, metadata=self._changed_metadata(image.metadata))
        changed = self._changed(image.title if self.field == "title" else image.description)
        if len(changed) > _LONGEST[self.field]:
            raise InvalidRequest(f"{self.field}: at most {_LONGEST[self.field]:,} characters.")
        if self.field == "title":
            return Entry(image.url, title=changed)
        return Entry(image.url, description=changed)

    @property
    def _tags(self) -> list[str]:
        return [tag for part in self.text.split(",") if (tag := part.strip())]

    @property
    def _pairs(self) -> list[tuple[str, str, str]]:
        """The lines, split at their first equals sign."""
        split = [line.partition("=") for line in self.text.splitlines() if line.strip()]
        return [(key.strip(), sign, value.strip()) for key, sign, value in split]

    def _check_pairs(self) -> None:
        for key, sign, value in self._pairs:
            if not (key and (value or self.how == "remove")) or not (sign or self.how == "remove"):
                raise ValueError("enter a key=value per line")
            if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
                raise ValueError(
                    f"a key has at most {MAX_METADATA_KEY} characters, a value {MAX_METADATA_VALUE}"
                )

    def _changed_metadata(self, kept: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
        given = {key: typed(value) for key, _, value in self._pairs}
        match self.how:
            case "set":
                changed = given
            case "add":
                changed = {**kept, **given}
            case "remove":
                gone = {key for key, _, value in self._pairs if not value}
                gone |= {key for key, value in given.items() if value and kept.get(key) == value}
                changed = {key: value for key, value in kept.items() if key not in gone}
        if len(changed) > MAX_METADATA_KEYS:
            raise InvalidRequest(f"metadata: at most {MAX_METADATA_KEYS} keys are allowed.")
        return changed

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
                # With the space before it, or two of them would be left.
                words = re.escape(text)
                return re.sub(rf" {words}(?=\s|$)|{words}", "", value).strip()
