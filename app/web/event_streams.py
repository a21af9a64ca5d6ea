"""Server-sent events of jobs, counted so that no client holds all connections."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.store.items import JobProgress
from app.web.clients import client_of
from app.web.requests import Request, parts

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """The progress of jobs as server-sent events, until all of them have ended.

    Each event is a whole job, as `render` shows it, so clients may miss some.
    """

    def __init__(
        self, request: Request, job_ids: Iterable[int], render: Callable[[JobProgress], str]
    ) -> None:
        self._streams = request.state["streams"]
        self._jobs = parts(request).jobs
        self._job_ids = set(job_ids)
        self._render = render
        super().__init__(self._events(), media_type="text/event-stream", headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response (ASGI); raises `TooManyStreams` or `TooBusy` before it begins."""
        with self._streams.counted(client_of(scope).counted_as):
            await super().__call__(scope, receive, send)

    async def _events(self) -> AsyncGenerator[str]:
        yield "retry: 1000\n\n"
        async with aclosing(self._jobs.watch(*self._job_ids)) as changes:
            async for progress in changes:
                lines = "".join(f"data: {line}\n" for line in self._render(progress).splitlines())
                yield f"event: progress\n{lines}\n"
        # One that ends because the server stops is continued at the next one.
        if not self._jobs.stopping.is_set():
            yield "event: end\ndata:\n\n"
