"""Maintaining the index: searching the list, editing, deleting, refreshing."""

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png


def titles(server: Server, **query: str) -> list[str]:
    answer = server.client.get("/api/images", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["total"] == len(answer.json()["images"])
    return sorted(image["title"] for image in answer.json()["images"])


def test_the_list_is_searched_by_title_description_tags_and_url(
    server: Server, host: ImageHost
) -> None:
    server.upsert(
        [
            {"url": host.url("seed/1.png"), "title": "A red boat", "tags": ["sea"]},
            {"url": host.url("seed/2.png"), "title": "Two", "description": "50% boats"},
            {"url": host.add("boat.png", png(3)), "title": "Three"},
            {"url": host.url("seed/4.png"), "title": "Four"},
        ]
    )
    assert titles(server, q="BOAT") == ["A red boat", "Three", "Two"]
    assert titles(server, q="sea") == ["A red boat"]
    assert titles(server, q="50%") == ["Two"]
    assert titles(server, q="_") == []
    assert titles(server, gone="true") == []
    page = server.client.get("/index?q=boat").text
    assert "3 images found" in page
    assert "Select all 3 images that match" in " ".join(page.split())


def test_the_details_of_an_image_can_be_edited(server: Server, host: ImageHost) -> None:
    entry = {"url": host.url("seed/1.png"), "title": "One", "tags": ["a"]}
    [image] = server.upsert([entry])
    path = f"/api/images/{image['id']}"
    changed = server.client.patch(path, json={"description": "Discs", "tags": ["b", "c"]}).json()
    assert (changed["title"], changed["description"]) == ("One", "Discs")
    assert changed["tags"] == ["b", "c"]
    assert server.client.patch(path, json={"name": "x"}).status_code == 422
    assert server.client.patch(path, content="x").status_code == 422
    fields = {"title": "New", "description": "", "tags": "x, y,"}
    assert server.client.post(f"/images/{image['id']}", data=fields).status_code == 303
    changed = server.client.get(path).json()
    assert (changed["title"], changed["description"], changed["tags"]) == ("New", "", ["x", "y"])
    assert server.lookalike.encoder.images.items == 1


def test_a_selection_is_deleted_by_id_or_by_text(server: Server, host: ImageHost) -> None:
    images = server.upsert([{"url": host.url(f"seed/{i}.png"), "title": f"n{i}"} for i in range(6)])
    delete = server.client.delete
    assert delete("/api/images").status_code == 422
    ids = f"{images[0]['id']},{images[1]['id']}"
    assert delete(f"/api/images?ids={ids}").json() == {"deleted": 2}
    assert delete("/api/images?q=n2").json() == {"deleted": 1}
    assert delete("/api/images?ids=x").status_code == 422
    assert titles(server) == ["n3", "n4", "n5"]
    all_n3 = {"q": "n3", "matching": "true", "action": "trash"}
    assert server.client.post("/index/images", data=all_n3).status_code == 303
    assert server.client.post("/index/images", data=all_n3).status_code == 422
    gone = {"delete": "yes"}
    assert server.client.post(f"/images/{images[4]['id']}", data=gone).status_code == 303
    stats = server.client.get("/api/stats").json()
    assert (stats["images"], stats["vectors"]) == (1, 1)


def test_a_refresh_fetches_changes_only_and_marks_dead_links(
    server: Server, host: ImageHost
) -> None:
    names = ("same.png", "changed.png", "dead.png", "plain.png")
    urls = [host.add(name, png(i)) + "?etag=1" for i, name in enumerate(names)]
    server.upsert([*urls[:3], host.url("pictures/plain.png")])
    host.add("changed.png", png(9))
    del host.pictures["dead.png"]
    host.sent.clear()
    job = server.client.post("/api/refresh")
    assert job.status_code == 202
    ended = server.done(job.json()["id"])
    assert (ended["unchanged"], ended["updated"], ended["failed"]) == (2, 1, 1)
    # A server that sends validators does not send unchanged images again.
    assert host.sent == {"changed.png": 1, "plain.png": 1}
    [dead] = server.client.get("/api/images?gone=true").json()["images"]
    assert dead["url"] == urls[2]
    assert server.client.get(f"/api/images/{dead['id']}").json()["gone_at"]
    assert len(server.query(png(9))) == 1
    # An image that comes back is no longer gone.
    host.add("dead.png", png(2))
    again = server.client.post("/api/refresh?gone=true").json()
    assert (server.done(again["id"])["total"], again["total"]) == (1, 1)
    assert server.client.get("/api/images?gone=true").json()["total"] == 0
