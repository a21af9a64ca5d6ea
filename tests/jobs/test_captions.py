"""Captions by a vision LLM, against a local server with OpenAI's protocol."""

from collections.abc import Callable, Generator
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from pydantic import SecretStr
from starlette.responses import JSONResponse, Response

from app.cli.main import cli
from app.jobs.captions import read_caption
from app.lookalike import open_lookalike
from app.problems import CaptionFailed
from app.settings import Settings
from app.web.server import create_app
from tests.caption_host import TOKENS, CaptionHost
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode

Start = Callable[..., Server]


@pytest.fixture
def captions(loop: Loop) -> Generator[CaptionHost]:
    host = CaptionHost()
    with loop.serving(host.app()) as host.address:
        yield host


@pytest.fixture
def server(settings: Settings, loop: Loop, captions: CaptionHost) -> Generator[Server]:
    changed = settings.model_copy(
        update={
            "caption_model": "tiny-vision",
            "caption_url": f"{captions.address}/v1",
            "caption_key": SecretStr("secret"),
            "caption_rate": 6000,
            "caption_tokens": 6 * TOKENS,
        }
    )
    with (
        loop.entered(open_lookalike(changed, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield Server(address, client, lookalike)


COLOURS = {"red": (210, 30, 40), "blue": (30, 60, 200), "green": (60, 130, 50)}


def pictures(host: ImageHost, *colours: str) -> list[str]:
    return [
        host.add(f"{n}-{name}.png", encode(Image.new("RGB", (64 + n, 64), COLOURS[name])))
        for n, name in enumerate(colours)
    ]


def last_job(server: Server) -> dict[str, Any]:
    jobs = server.client.get("/api/jobs").json()["jobs"]
    return server.done(jobs[0]["id"])


def test_images_with_long_urls_are_described(server: Server, host: ImageHost) -> None:
    long = host.url("padded/") + "x" * 6000
    job = server.start([long])
    assert server.done(job["id"])["indexed"] == 1
    job = last_job(server)
    assert (job["title"], job["updated"], job["failed"]) == ("Captions", 1, 0)
    [direct] = server.upsert([long + "y"])
    assert direct["status"] == "indexed"
    assert last_job(server)["updated"] == 1


def caption_of(server: Server, result: dict[str, Any]) -> tuple[str, str]:
    image = server.client.get(f"/api/images/{result['id']}").json()
    return image["title"], image["description"]


def test_indexed_images_are_captioned_by_a_second_job_and_found_by_caption(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    red, blue = pictures(host, "red", "blue")
    results = server.upsert([red, {"url": blue, "title": "My sea", "tags": ["sea"]}])
    job = last_job(server)
    assert (job["title"], job["updated"], job["failed"]) == ("Captions", 2, 0)
    assert caption_of(server, results[0]) == ("Something red", "A plain red surface.")
    # A title that was given is kept.
    assert caption_of(server, results[1]) == ("My sea", "A plain blue surface.")
    assert set(captions.keys) == {"Bearer secret"}
    assert {body["model"] for body in captions.asked} == {"tiny-vision"}
    answer = server.client.post("/api/search", json={"text": "blue surface"}).json()
    # The encoder embeds text too, and so ranks the other image as well.
    first = answer["results"][0]
    assert (first["id"], first["matched"]) == (results[1]["id"], ["picture", "text"])
    assert [r["matched"] for r in answer["results"][1:]] == [["picture"]]


def test_images_of_a_job_are_captioned_once_it_has_ended(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    job = server.start(pictures(host, "red", "green"))
    assert server.done(job["id"])["indexed"] == 2
    while len(server.client.get("/api/jobs").json()["jobs"]) < 2:
        pass
    assert last_job(server)["updated"] == 2
    assert len(captions.asked) == 2


def test_no_image_is_captioned_twice(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    urls = pictures(host, "red", "green")
    server.upsert(urls)
    last_job(server)
    server.upsert(urls)
    answer = server.client.post("/api/captions")
    assert (answer.status_code, "has a description" in answer.json()["detail"]) == (422, True)
    assert len(captions.asked) == 2
    assert len(server.client.get("/api/jobs").json()["jobs"]) == 1


def test_temporary_failures_are_retried_and_permanent_ones_reported(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    captions.troubles += [
        JSONResponse({"error": {"message": "slow down"}}, 429, {"retry-after": "0"}),
        JSONResponse({"error": {"message": "overloaded"}}, 503),
        "I cannot see any picture.",
    ]
    [result] = server.upsert(pictures(host, "green"))
    assert last_job(server)["updated"] == 1
    assert caption_of(server, result) == ("Something green", "A plain green surface.")
    assert len(captions.asked) == 4
    captions.troubles += [JSONResponse({"error": {"message": "no such model"}}, 404)]
    server.upsert([host.add("b.png", encode(Image.new("RGB", (99, 64), COLOURS["red"])))])
    job = last_job(server)
    [item] = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    assert (item["state"], "no such model" in item["reason"]) == ("failed", True)


def test_answers_that_are_none_are_retried_and_spend_nothing(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    deep = Response("[" * 50_000 + "]" * 50_000, media_type="application/json")
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": -(10**30)}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "no"}}]
    captions.troubles += [
        JSONResponse({}, 429, {"retry-after": "9" * 5000}),
        JSONResponse({}, 503, {"retry-after": "²"}),
        deep,
        JSONResponse({"id": "", "choices": choices, "usage": usage, "model": "m", "created": 1}),
    ]
    [result] = server.upsert(pictures(host, "green"))
    assert last_job(server)["updated"] == 1
    assert caption_of(server, result) == ("Something green", "A plain green surface.")


def test_a_job_stops_at_its_token_budget_and_continues_when_retried(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    colours = ["red", "green", "blue"] * 6
    server.upsert(pictures(host, *colours))
    job = last_job(server)
    # Four requests run at once, so that as many may exceed the budget.
    assert 6 <= job["updated"] <= 9
    assert job["updated"] + job["failed"] == 18
    items = server.client.get(f"/api/jobs/{job['id']}/items?state=failed").json()["items"]
    assert all("CAPTION_TOKENS" in item["reason"] for item in items)
    before = len(captions.asked)
    server.client.post(f"/api/jobs/{job['id']}/retry")
    again = server.done(job["id"])
    assert again["updated"] >= job["updated"] + 6
    assert 6 <= len(captions.asked) - before <= 9


def test_useless_answers_count_towards_the_budget(
    server: Server, host: ImageHost, captions: CaptionHost
) -> None:
    captions.troubles += ["I cannot see any picture."] * 30
    server.upsert(pictures(host, *["red", "green", "blue"] * 4))
    job = last_job(server)
    assert (job["updated"], job["failed"]) == (0, 12)
    assert 6 <= len(captions.asked) <= 9


def test_without_a_caption_model_no_image_leaves_the_machine(
    settings: Settings, loop: Loop, host: ImageHost, captions: CaptionHost
) -> None:
    with (
        loop.entered(open_lookalike(settings, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        Server(address, client, lookalike).upsert(pictures(host, "red"))
        answer = client.post("/api/captions")
        assert (answer.status_code, "CAPTION_MODEL" in answer.json()["detail"]) == (422, True)
        assert client.get("/api/jobs").json()["jobs"] == []
    assert captions.asked == []


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ('{"title": "A", "description": "B."}', ("A", "B.")),
        ('Sure!\n```json\n{"title": "A", "description": "B\nC"}\n```', ("A", "B\nC")),
        ('{"title": "", "description": "B\\u0000"}', ("", "B")),
    ],
)
def test_read_caption_finds_the_json(answer: str, caption: tuple[str, str]) -> None:
    assert read_caption(answer) == caption


@pytest.mark.parametrize(
    "answer",
    [
        *("", "A red boat.", "[1]", '{"title": "A"}', '{"title": "A", "description": " "}', "{"),
        '{"a":' * 50_000 + "}",
        '{"title": "A", "description": %s}' % ("9" * 5000),
    ],
    ids=lambda answer: answer[:30],
)
def test_read_caption_refuses_answers_without_a_description(answer: str) -> None:
    with pytest.raises(CaptionFailed):
        read_caption(answer)


def test_the_command_names_the_missing_setting() -> None:
    result = CliRunner().invoke(cli, ["caption"])
    assert (result.exit_code, "CAPTION_MODEL" in result.output) == (2, True)
