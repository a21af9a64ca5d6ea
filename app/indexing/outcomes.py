"""The outcome of indexing an image."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from app.problems import Problem

OutcomeStatus = Literal["indexed", "unchanged", "updated", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one image; `problem` is set if it failed."""

    url: str
    status: OutcomeStatus
    id: UUID | None = None
    problem: Problem | None = None

    @property
    def reason(self) -> str | None:
        """The reason for the failure, as a sentence."""
        return self.problem.detail if self.problem else None
