"""What the OpenAPI document says of one method of one path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its input, its output and the statuses with which it may fail."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | dict[str, Any] | None = None
    answer_type: str = "application/json"
    body: type[BaseModel] | None = None
    form: dict[str, Any] | None = None
    query: type[BaseModel] | None = None
    lists: Sequence[str] = ()
    prefer: bool = False
    status: int = 200
    others: Mapping[int, str] = field(default_factory=dict[int, str])
    failures: Sequence[int] = ()
    writes: bool = False
