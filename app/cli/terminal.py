"""Output of commands: lines, progress bars and JSON."""

import json
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import click


def say(line: str) -> None:
    """Print a line to stderr, apart from the results."""
    click.echo(line, err=True)


@contextmanager
def bar(doing: str, total: int) -> Generator[Callable[[int], None]]:
    """Show a progress bar if stderr is a terminal; yields a function that sets the number done."""
    if sys.stderr.isatty():
        with _shown_bar(doing, total) as show:
            yield show
    else:
        yield _ignore


def _ignore(_: int) -> None:
    pass


@contextmanager
def _shown_bar(doing: str, total: int) -> Generator[Callable[[int], None]]:
    # Imported here because it takes as long as a short command.
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

    class Rate(ProgressColumn):
        """Images per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    # Lines printed meanwhile appear above the bar.
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, completed=done)


def show_counts(counts: Mapping[Any, int]) -> None:
    """Print the number of images by status."""
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


def show_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print names and values, one pair per line or as JSON."""
    if as_json:
        show_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


def show_line(line: str) -> None:
    """Print one line."""
    click.echo(line)


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2))
