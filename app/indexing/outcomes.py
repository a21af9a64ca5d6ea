"""What became of a picture that was to be indexed."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from app.problems import Problem

OutcomeStatus = Literal["indexed", "unchanged", "updated", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture; `problem` says why if it failed."""

    url: str
    status: OutcomeStatus
    id: UUID | None = None
    problem: Problem | None = None

    @property
    def reason(self) -> str | None:
        """Why it failed, as a sentence."""
        return self.problem.detail if self.problem else None
