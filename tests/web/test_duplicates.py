"""Groups of duplicates, resolved over HTTP and on the page."""

import re
from io import BytesIO
from uuid import uuid4

import pytest
from PIL import Image, ImageDraw, ImageOps

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, encode, photo, png
from tests.web.test_trash import listed


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    small = {"url": host.add("small.jpg", altered(png(1))), "title": "Leaves", "tags": ["green"]}
    return [r["id"] for r in server.upsert([small, host.add("large.png", png(1))])]


def test_the_best_is_kept_and_gets_what_the_others_say(server: Server, ids: list[str]) -> None:
    found = server.client.get("/api/duplicates").json()
    assert found["best"] == ids[1:]
    keep = {"keep": ids[1], "others": ids, "merge": True}
    assert server.client.post("/api/duplicates/keep", json=keep).json() == {"trashed": 1}
    assert listed(server) == ids[:1]
    image = server.client.get(f"/api/images/{ids[1]}").json()
    assert (image["title"], image["tags"]) == ("Leaves", ["green"])
    assert server.client.get("/api/duplicates").json()["groups"] == []
    server.client.post("/api/trash/restore", json={"all": True})
    assert len(server.client.get("/api/duplicates").json()["groups"]) == 1


def test_nothing_goes_without_the_image_to_keep(server: Server, ids: list[str]) -> None:
    keep = {"keep": str(uuid4()), "others": ids}
    assert server.client.post("/api/duplicates/keep", json=keep).status_code == 404
    assert server.client.post("/api/duplicates/keep", json={"keep": ids[0]}).status_code == 422
    assert listed(server) == []


def test_what_is_denied_can_be_allowed_again(server: Server, ids: list[str]) -> None:
    client = server.client
    assert client.post("/api/duplicates/deny", json={"ids": ids}).json() == {"images": 2}
    assert client.get("/api/duplicates").json()["groups"] == []
    client.post("/api/duplicates/deny", json={"ids": ids, "undo": True})
    assert len(client.get("/api/duplicates").json()["groups"]) == 1


def test_what_was_denied_is_listed_until_it_is_undone(server: Server, ids: list[str]) -> None:
    client = server.client
    assert client.get("/api/duplicates/denied").json() == {"pairs": []}
    client.post("/api/duplicates/deny", json={"ids": ids})
    [pair] = client.get("/api/duplicates/denied?limit=1").json()["pairs"]
    assert {image["id"] for image in pair["images"]} == set(ids)
    assert "denied_at" in pair
    # What is not in the index is not shown, but it is not forgotten either.
    client.post("/api/duplicates/keep", json={"keep": ids[1], "others": ids})
    assert client.get("/api/duplicates/denied").json() == {"pairs": []}
    client.post("/api/trash/restore", json={"all": True})
    assert len(client.get("/api/duplicates/denied").json()["pairs"]) == 1
    client.post("/api/duplicates/deny", json={"ids": ids, "undo": True})
    assert client.get("/api/duplicates/denied").json() == {"pairs": []}
    assert client.get("/api/duplicates/denied?limit=0").status_code == 422


def test_two_images_of_one_file_that_are_no_duplicates_are_listed(
    server: Server, host: ImageHost
) -> None:
    same = [r["id"] for r in server.upsert([host.add(n, png(7)) for n in ("a.png", "b.png")])]
    server.client.post("/api/duplicates/deny", json={"ids": same})
    [pair] = server.client.get("/api/duplicates/denied").json()["pairs"]
    assert {image["id"] for image in pair["images"]} == set(same)


def test_a_group_says_how_its_members_differ(server: Server, host: ImageHost) -> None:
    image = photo(3, (480, 400))
    captioned = ImageOps.mirror(image).resize((240, 200))
    ImageDraw.Draw(captioned).rectangle([20, 140, 220, 180], fill="white")
    server.upsert([host.add("a.png", encode(image)), host.add("b.png", encode(captioned))])
    [[first, other]] = server.client.get("/api/duplicates?min_similarity=0.3").json()["groups"]
    assert first["alignment"] is None
    alignment = other["alignment"]
    assert (alignment["mirrored"], alignment["edited"]) == (True, True)
    factor = other["width"] / first["width"]
    assert alignment["scale"] == pytest.approx(factor, rel=0.05)
    page = server.client.get("/duplicates?min_similarity=0.3").text
    [words] = re.findall(r"Unlike the first:\s+([^<]*)", page)
    assert "mirrored" in words
    assert "its bytes" in words
    assert re.search(r"in \d+ places?", words)
    assert 'class="edited"' in page


def test_the_page_undoes_what_was_said(server: Server, ids: list[str]) -> None:
    client = server.client
    answer = client.post("/duplicates", data={"ids": ",".join(ids), "action": "deny"})
    page = client.get(answer.headers["location"]).text
    assert "will not be shown as duplicates again" in page
    assert page.count('value="allow"') == 2
    client.post("/duplicates", data={"ids": ",".join(ids), "action": "allow"})
    page = client.get("/duplicates").text
    assert "Move the others to the trash" in page
    assert 'value="allow"' not in page


def test_the_page_shows_when_a_photo_was_taken(server: Server, host: ImageHost) -> None:
    exif = Image.Exif()
    exif[0x9003] = exif[0x0132] = "2019:07:04 18:30:00"
    out = BytesIO()
    photo(4, (300, 260)).save(out, "JPEG", exif=exif)
    server.upsert(
        [
            host.add("taken.jpg", out.getvalue()),
            host.add("b.jpg", altered(encode(photo(4, (300, 260))))),
        ]
    )
    assert "taken 2019-07-04 18:30" in server.client.get("/duplicates").text


def test_the_page_resolves_groups(server: Server, ids: list[str]) -> None:
    client = server.client
    page = client.get("/duplicates").text
    assert f'value="{ids[1]}" checked' in page
    form = {"ids": ",".join(ids), "keep": ids[1], "action": "keep"}
    assert client.post("/duplicates", data=form).headers["location"] == "/trash"
    assert listed(server) == ids[:1]
    client.post("/trash", data={"all": "true", "action": "restore"})
    answer = client.post("/duplicates", data={"ids": ",".join(ids), "action": "deny"})
    assert answer.status_code == 303
    assert "No duplicates found" in client.get("/duplicates").text
    assert client.post("/duplicates", data={"action": "keep"}).status_code == 422
