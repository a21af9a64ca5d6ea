"""What commands show: lines, progress bars, results and facts."""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from app.encoder import Encoder
from app.hits import Hit
from app.index_api import job_document, outcome_document
from app.indexing import Outcome
from app.items import Progress as JobProgress
from app.search import Results

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Print a line beside the results."""
    err.print(line, markup=False)


@contextmanager
def bar(doing: str, total: int) -> Generator[Callable[[int], None]]:
    """Show a bar, on a terminal only; the yielded function moves it to so many done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, completed=done)


class _Rate(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "")


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print one picture's outcome; unless as JSON, only a failure."""
    if as_json:
        out.print(outcome_document(outcome).model_dump_json(), markup=False)
    elif outcome.status == "failed":
        say(f"failed: {outcome.url}: {outcome.reason}")


def show_counts(counts: Mapping[Any, int]) -> None:
    """Print how many pictures ended which way."""
    out.print(", ".join(f"{count} {state}" for state, count in counts.items()))


def show_job(job: JobProgress, *, as_json: bool) -> None:
    """Print a job as one line, or as JSON."""
    if as_json:
        show_json(job_document(job).model_dump(mode="json"))
        return
    counts = ", ".join(f"{count} {state}" for state, count in job.counts.items())
    out.print(f"{job.id:>6}  {job.state:9}  {counts or 'empty'}  {job.title}", markup=False)


def show_results(results: Results) -> None:
    """Print hits, best first, or the closest miss."""
    for note in results.notes:
        say(note)
    if not results.hits:
        closest = results.below[0] if results.below else None
        said = f" The closest, at {_similarity(closest)}: {closest.image.url}" if closest else ""
        say(f"{'Nothing is similar enough' if closest else 'Nothing was found'}.{said}")
        return
    for hit in results.hits:
        image, match = hit.image, hit.match or ""
        size = f"{image.width} x {image.height}"
        out.print(f"{_similarity(hit)}  {match:7}  {size:>13}  {image.url}", markup=False)


def _similarity(hit: Hit) -> str:
    return "words" if hit.similarity is None else f"{hit.similarity:.3f}"


def encoder_facts(encoder: Encoder) -> dict[str, Any]:
    """Return what there is to tell of an encoder."""
    model = encoder.model
    return {
        "name": model.name,
        "source": encoder.source,
        "precision": model.precision,
        "dimensions": model.dimensions,
        "text": model.has_text,
        "fingerprint": model.fingerprint,
    }


def show_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print names and values."""
    if as_json:
        show_json(facts)
        return
    for name, value in facts.items():
        out.print(f"{name.replace('_', ' ')}: {value}", markup=False)


def show_json(value: Any) -> None:
    """Print JSON for scripts."""
    out.print(json.dumps(value, indent=2), markup=False)
