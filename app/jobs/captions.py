"""Titles and descriptions by a vision LLM, over OpenAI's chat protocol.

Off unless CAPTION_MODEL is set: only then do images, as thumbnails, leave this machine.
"""

# The OpenAI client's answers are untyped.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from app.indexing.answers import retry_after_s
from app.indexing.indexer import Indexer
from app.indexing.outcomes import Outcome, OutcomeStatus
from app.indexing.requests import MAX_INTEGER
from app.problems import CaptionBudgetSpent, CaptionFailed, CaptionProblem, CaptionRefused, NotFound
from app.settings import Settings
from app.store.catalog import Catalog
from app.store.database import storable
from app.store.images import Entry
from app.store.items import Item
from app.store.job_items import JobItems

if TYPE_CHECKING:
    import httpx

CAPTIONS_AT_ONCE = 4
TIMEOUT_S = 120
MAX_TITLE_LENGTH, MAX_DESCRIPTION_LENGTH = 120, 1000
# Enough for both fields and the JSON around them.
MAX_TOKENS_PER_ANSWER = 300

PROMPT = """\
Describe this picture for a search index. Answer with one JSON object and nothing else:
{"title": "at most eight words", "description": "one sentence that says what can be seen"}"""


class Captioner:
    """Captions indexed images that have no description, four at a time."""

    def __init__(
        self, *, settings: Settings, catalog: Catalog, indexer: Indexer, job_items: JobItems
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._indexer = indexer
        self._job_items = job_items
        self._slots = asyncio.Semaphore(CAPTIONS_AT_ONCE)
        self._http: httpx.AsyncClient | None = None
        self._llm: Any = None

    @property
    def is_on(self) -> bool:
        """Whether a caption model is configured."""
        return self._settings.caption_model is not None

    async def close(self) -> None:
        """Close the connections to the model's server."""
        if self._http is not None:
            await self._http.aclose()

    async def caption(self, item: Item) -> Outcome:
        """Caption an item's image unless it has a description; an existing title is kept.

        So is what a person writes while the model thinks.

        Raises `Unavailable`. Every other problem, of the image or of the model, is in the outcome.
        """
        async with self._slots:
            try:
                status = await self._caption(item)
            except (CaptionProblem, NotFound) as problem:
                return Outcome(item.entry.url, "failed", problem=problem)
        return Outcome(item.entry.url, status, id=item.entry.id)

    async def _caption(self, item: Item) -> OutcomeStatus:
        image = await self._catalog.find(item.entry.id)
        thumbnail = await self._catalog.thumbnail(item.entry.id)
        if image is None or thumbnail is None:
            raise NotFound("The image is no longer in the index.")
        entry = Entry(image.url)
        if not image.description:
            if await self._job_items.tokens(item.job_id) >= self._settings.caption_tokens:
                raise CaptionBudgetSpent
            answer, tokens = await self._ask(thumbnail[1])
            # Before parsing: a useless answer costs as much.
            await self._job_items.add_tokens(item.job_id, tokens)
            title, description = read_caption(answer)
            entry = Entry(image.url, title, description)
        return await self._indexer.describe(image, entry, fills=True, item=item)

    async def _ask(self, jpeg: bytes) -> tuple[str, int]:
        """Return the model's answer and the number of tokens used."""
        # Imported here because it takes half a second, and few installations have a caption model.
        import httpx
        import openai
        from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

        if self._http is None:
            # Made here because it reads the certificates, and few starts have a use for it.
            self._http = httpx.AsyncClient(timeout=TIMEOUT_S)
            self._llm = _client(self._settings, self._http)
        blocks = [TextBlock(text=PROMPT), ImageBlock(image=jpeg, image_mimetype="image/jpeg")]
        try:
            answer = await self._llm.achat([ChatMessage(role="user", blocks=blocks)])
        except openai.APIStatusError as exc:
            if exc.status_code in (408, 409, 425, 429) or exc.status_code >= 500:
                raise _retryable(exc.response) from exc
            raise CaptionRefused(
                f"The caption model's server answered {exc.status_code}: {exc.message[:300]}"
            ) from exc
        except openai.APIError as exc:
            raise CaptionFailed(f"The caption model's server did not answer: {exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise CaptionFailed("The caption model's server answered with no JSON.") from exc
        usage = getattr(answer.raw, "usage", None)
        tokens = getattr(usage, "total_tokens", None)
        used = tokens if isinstance(tokens, int) and 0 <= tokens <= MAX_INTEGER else 0
        return str(answer.message.content or ""), min(used, self._settings.caption_tokens)


def read_caption(answer: str) -> tuple[str, str]:
    """Return the title and description in a model's answer; raises `CaptionFailed`.

    Models wrap JSON in prose and code fences, so only the outermost braces are parsed.
    """
    found = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        fields: Any = json.loads(found[0], strict=False) if found else None
        title, description = (str(fields[name]).strip() for name in ("title", "description"))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise CaptionFailed(
            "The caption model did not answer with a title and description."
        ) from exc
    if not description:
        raise CaptionFailed("The caption model's description is empty.")
    return storable(title)[:MAX_TITLE_LENGTH], storable(description)[:MAX_DESCRIPTION_LENGTH]


def _retryable(response: "httpx.Response") -> CaptionFailed:
    problem = CaptionFailed(f"The caption model's server answered {response.status_code}.")
    problem.retry_after_s = retry_after_s(response.headers.get("retry-after", ""))
    return problem


def _client(settings: Settings, http: "httpx.AsyncClient") -> Any:
    from llama_index.core.rate_limiter import TokenBucketRateLimiter
    from llama_index.llms.openai_like import OpenAILike

    # Reaches the client's constructor through **kwargs, which the type stub lacks.
    options: dict[str, Any] = {"async_http_client": http}
    key = settings.caption_key.get_secret_value() if settings.caption_key else "none"
    return OpenAILike(
        model=settings.caption_model or "",
        api_base=settings.caption_url,
        api_key=key,
        is_chat_model=True,
        temperature=0,
        max_tokens=MAX_TOKENS_PER_ANSWER,
        # The job retries, with longer waits than the client would.
        max_retries=0,
        timeout=TIMEOUT_S,
        **options,
        rate_limiter=TokenBucketRateLimiter(requests_per_minute=settings.caption_rate),
        additional_kwargs={"response_format": {"type": "json_object"}},
    )
