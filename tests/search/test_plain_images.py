"""Images too plain to be told from others are found, and are no one's copy."""

import pytest
from PIL import Image

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, encode, photo, png
from tests.search.test_duplicates import groups_of


def gradient(turn: Image.Transpose | None = None) -> Image.Image:
    image = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    return image if turn is None else image.transpose(turn)


PLAIN = {
    "white.png": Image.new("RGB", (300, 300), "white"),
    "paper.png": Image.new("RGB", (300, 200), (250, 250, 245)),
    "down.png": gradient(),
    "half.png": gradient().point(lambda level: 40 + level // 2),
}


def test_an_image_too_plain_says_so_and_one_that_is_not_does(
    server: Server, host: ImageHost
) -> None:
    plain, other = server.upsert(
        [host.add("a.png", encode(PLAIN["white.png"])), host.add("b.png", png(1))]
    )
    for outcome, expected in ((plain, True), (other, False)):
        document = server.client.get(f"/api/images/{outcome['id']}").json()
        assert (document["too_plain"], document["truncated"]) == (expected, False)
    listed = server.client.get("/api/images").json()["images"]
    assert {image["url"]: image["too_plain"] for image in listed} == {
        plain["url"]: True,
        other["url"]: False,
    }


def test_a_plain_image_is_no_copy_of_another(server: Server, host: ImageHost) -> None:
    urls = {host.add(name, encode(image)): name for name, image in PLAIN.items()}
    server.upsert(list(urls))
    for image in PLAIN.values():
        hits = server.search(encode(image), min_similarity=-1)
        assert sorted(hit["match"] for hit in hits) == ["exact", *["similar"] * (len(PLAIN) - 1)]
        # Nor of itself, compressed: that may as well be another.
        hits = server.search(encode(image, "JPEG"), min_similarity=-1)
        assert {hit["match"] for hit in hits} == {"similar"}
        assert all(hit["too_plain"] for hit in hits)


def test_a_plain_query_is_no_copy_of_what_is_nearly_plain(server: Server, host: ImageHost) -> None:
    page = PLAIN["white.png"].copy()
    page.paste((0, 0, 0), (140, 140, 150, 150))
    [outcome] = server.upsert([host.add("page.png", encode(page))])
    assert not server.client.get(f"/api/images/{outcome['id']}").json()["too_plain"]
    [hit] = server.search(encode(PLAIN["white.png"]), min_similarity=-1)
    assert hit["match"] == "similar"
    # A dot is no proof; a photo on the page is.
    [hit] = server.search(altered(encode(page)), min_similarity=-1)
    assert hit["match"] == "similar"
    page.paste(photo(1, (150, 150)), (60, 60))
    server.upsert([host.add("page.png", encode(page))])
    [hit] = server.search(altered(encode(page)), min_similarity=-1)
    assert hit["match"] == "copy"


def test_a_plain_image_of_the_index_is_no_copy_as_a_query(server: Server, host: ImageHost) -> None:
    first, _ = server.upsert([host.add(n, encode(PLAIN[n])) for n in ("white.png", "paper.png")])
    answer = server.client.post(
        "/api/search", json={"query": [{"id": first["id"]}], "min_similarity": -1}
    )
    assert answer.status_code == 200, answer.text
    assert [hit["match"] for hit in answer.json()["results"]] in (["similar"], ["exact", "similar"])


def test_plain_images_are_duplicates_by_their_bytes_only(server: Server, host: ImageHost) -> None:
    white = encode(PLAIN["white.png"])
    same = [host.add(name, white) for name in ("1.png", "2.png")]
    copies = [host.add("3.png", png(3)), host.add("3.jpg", altered(png(3)))]
    others = [host.add(name, encode(image)) for name, image in PLAIN.items() if name[0] != "w"]
    server.upsert([*same, *others, *copies, host.add("w.jpg", encode(PLAIN["white.png"], "JPEG"))])
    found = groups_of(server, min_similarity=0, max_bits=64)
    assert set(same) in found
    found = groups_of(server)
    assert sorted(found, key=min) == sorted([set(same), set(copies)], key=min)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_cut_file_is_indexed_and_says_so(server: Server, host: ImageHost, share: float) -> None:
    data = encode(photo(1, (600, 400)), "JPEG")
    data = data[: len(data) - max(2, round(share * len(data)))]
    entry = {"url": host.add("cut.jpg", data), "metadata": {"sku": "a1"}}
    whole, cut = server.upsert([host.add("a.png", png(2)), entry])
    assert cut["status"] == "indexed"
    document = server.client.get(f"/api/images/{cut['id']}").json()
    assert document["truncated"] is True
    assert document["metadata"] == {"sku": "a1", "truncated": True}
    assert server.client.get(f"/api/images/{whole['id']}").json()["metadata"] == {}
    hit = server.search(data, min_similarity=0.9)[0]
    assert (hit["url"], hit["match"], hit["metadata"]["truncated"]) == (cut["url"], "exact", True)


def test_a_file_of_which_most_is_missing_says_how_much(server: Server, host: ImageHost) -> None:
    data = encode(photo(1, (600, 400)), "JPEG")
    [outcome] = server.upsert([host.add("cut.jpg", data[: len(data) // 5])])
    assert outcome["status"] == "failed"
    assert "% of its pixels are missing" in outcome["reason"]
