"""The commands `jobs`, `worker`, `refresh` and `caption`."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Protocol

import click

from app.cli.terminal import bar, say, show_json
from app.jobs.documents import job_document
from app.logs import set_up_logs
from app.lookalike import Lookalike, open_lookalike
from app.settings import Settings, read_settings
from app.store.catalog import Selection
from app.store.items import JobProgress
from app.store.workers import WorkerCount


class Beside(Protocol):
    """What opens something beside a worker's work."""

    def __call__(
        self, lookalike: Lookalike, *, announce: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """Return a context within which it is open."""
        ...


async def work(settings: Settings, *, beside: Beside | None = None) -> None:
    """Work on jobs until SIGINT or SIGTERM, then finish or requeue what is running.

    `beside` serves something within its context meanwhile.
    """
    set_up_logs(level=settings.log_level, form=settings.log_format)
    async with open_lookalike(settings, announce=say) as lookalike:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lookalike.jobs.stop)
        async with beside(lookalike, announce=say) if beside else nullcontext():
            say("Working on jobs (press Ctrl-C to stop)")
            await lookalike.jobs.work()


async def list_jobs(*, as_json: bool) -> None:
    """Print the jobs, newest first."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        found = await lookalike.job_items.newest(limit=100)
        workers = await lookalike.workers.count()
    if as_json:
        show_json([job_document(job).model_dump(mode="json") for job in found])
        return
    for job in found:
        show_job(job, as_json=False)
    if not found:
        say("There are no jobs.")
    say(_about(workers))


async def change_or_follow(job_id: int, action: str | None, *, as_json: bool) -> JobProgress | None:
    """Retry, cancel or delete a job, or follow it to its end if `action` is None.

    Prints the job and returns its progress, None if it was deleted. Raises `NotFound`.
    """
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        job = await lookalike.job_items.find(job_id)
        if action == "delete":
            await lookalike.jobs.delete(job_id)
            return None
        if action == "retry":
            await lookalike.jobs.retry(job_id)
        elif action == "cancel":
            await lookalike.job_items.cancel(job_id)
        else:
            with bar(job.title, job.total) as show:
                async for progress in lookalike.jobs.watch(job_id):
                    show(progress.ended)
        changed = await lookalike.job_items.progress(job_id)
    if changed is not None:
        show_job(changed, as_json=as_json)
    return changed


async def refresh(older_than: float | None, *, as_json: bool) -> None:
    """Create a job that checks images on the web, and print it.

    Only those last checked more than `older_than` days ago, or all if it is None.
    """
    before = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        job_id = await lookalike.jobs.refresh(Selection(checked_before=before))
        show_new_job(await lookalike.job_items.find(job_id), as_json=as_json)


async def caption(*, as_json: bool) -> None:
    """Create a job that captions the images without a description, and print it."""
    async with open_lookalike(read_settings(), announce=say) as lookalike:
        if not lookalike.settings.caption_model:
            raise click.UsageError("No caption model is configured: set CAPTION_MODEL.")
        job_id = await lookalike.jobs.caption()
        if job_id is None:
            raise click.UsageError("Every image has a description or is waiting for one.")
        show_new_job(await lookalike.job_items.find(job_id), as_json=as_json)


def _about(workers: WorkerCount) -> str:
    if not workers.running:
        return "No worker is running: start a server, or `lookalike worker`."
    running = f"{workers.running} {'worker is' if workers.running == 1 else 'workers are'} running"
    return f"{running}, {workers.captioning or 'none'} with a CAPTION_MODEL."


def show_job(job: JobProgress, *, as_json: bool) -> None:
    """Print a job as one line, or as JSON."""
    if as_json:
        show_json(job_document(job).model_dump(mode="json"))
        return
    counts = ", ".join(f"{count} {state}" for state, count in job.counts.items())
    click.echo(f"{job.id:>6}  {job.state:9}  {counts or 'empty'}  {job.title}")
    if job.missing:
        say(f"{'':6}  {job.missing}")


def show_new_job(job: JobProgress, *, as_json: bool) -> None:
    """Print a new job, and how to follow it."""
    show_job(job, as_json=as_json)
    if not as_json:
        say(f"A server or `lookalike worker` runs it; `lookalike jobs {job.id}` follows it.")
