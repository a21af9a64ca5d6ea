"""What the OpenAPI document says of one method of one path, and how curl does it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel

Tag = Literal["Search", "Images", "Indexing", "Duplicates", "People", "Trash", "Jobs", "Server"]

# Ids in examples: those of an image and another one, and that of a job.
IMAGE_ID = "3f2504e0-4f89-41d3-9a0c-0305e82cf3a7"
OTHER_ID = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
JOB_ID = "1"
_BODILESS = ("get", "delete")


@dataclass(frozen=True, slots=True)
class Form:
    """A form that an operation takes as multipart/form-data.

    `name` is that of its schema, and `fields` are those beside the fields of the operation's body.
    """

    name: str
    fields: Mapping[str, dict[str, Any]]
    example: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its input, its output and the statuses with which it may fail.

    `name` is the operation's id, by which generated clients call it. The first sentence of
    `about` is its summary. `example` is a body, `asks` are parameters of the query string, and
    `answers` is an answer, all as examples. With `preferred`, the example asks for a job.
    """

    method: str
    path: str
    about: str
    name: str
    tag: Tag
    answer: type[BaseModel] | dict[str, Any] | None = None
    answer_type: str = "application/json"
    body: type[BaseModel] | None = None
    form: Form | None = None
    query: type[BaseModel] | None = None
    lists: Sequence[str] = ()
    prefer: bool = False
    status: int = 200
    others: Mapping[int, str] = field(default_factory=dict[int, str])
    failures: Sequence[int] = ()
    writes: bool = False
    example: Any = None
    asks: Mapping[str, str] = field(default_factory=dict[str, str])
    answers: Any = None

    @property
    def summary(self) -> str:
        """The first sentence about it, without its full stop."""
        return self.about.split(". ")[0].rstrip(".")

    def curl(self, base: str) -> str:
        """Return a command that sends the example to the server at this URL, on one line.

        A form is preferred to a body, because a file is what most people have.
        """
        example = JOB_ID if self.path.startswith("/api/jobs") else IMAGE_ID
        path = self.path.replace("{id}", example)
        url = base.rstrip("/") + path + (f"?{urlencode(self.asks)}" if self.asks else "")
        words = ["curl"]
        has_body = self.example is not None or (self.form is not None and self.form.example)
        if self.method not in _BODILESS[:1] and not (self.method == "post" and has_body):
            words += ["-X", self.method.upper()]
        if self.answer_type == "text/event-stream":
            words.append("-N")
        if self.answer_type.startswith("image/"):
            words += ["-L", "-o", "image.jpg"]
        words.append(url)
        if self.form is not None and self.form.example:
            for name, value in self.form.example.items():
                words += ["-F", f"{name}={value}"]
        elif self.example is not None:
            body = json.dumps(self.example, ensure_ascii=False)
            words += ["-H", "Content-Type: application/json", "-d", body]
        return shlex.join(words)
