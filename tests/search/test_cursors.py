"""Cursors of lists, and how long they may be."""

import random

from app.search.cursors import MAX_CHARACTERS, TOO_LONG
from tests.conftest import Server
from tests.image_host import ImageHost


def test_a_list_by_too_many_filters_has_no_cursor_that_is_refused(
    server: Server, host: ImageHost
) -> None:
    server.upsert([host.url(f"seed/{n}.png") for n in range(2)])
    rng = random.Random(0)  # noqa: S311 - no secret
    # Of which none can be packed to less.
    formats = ["".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(300)) for _ in range(99)]
    asked = {"formats": ["PNG", *formats], "limit": 1}
    answer = server.client.post("/api/search", json=asked).json()
    assert len(answer["results"]) == 1
    assert (answer["next"], answer["notes"]) == (None, [TOO_LONG])
    # A few are well within the limit, and the list goes on.
    asked["formats"] = ["PNG", *formats[:20]]
    answer = server.client.post("/api/search", json=asked).json()
    assert len(answer["next"]) < MAX_CHARACTERS
    answer = server.client.post("/api/search", json={"cursor": answer["next"]})
    assert answer.status_code == 200, answer.text
