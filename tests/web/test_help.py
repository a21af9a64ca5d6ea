"""The page of help, and what other programs start a search with."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png

EXTENSION = Path(__file__).parents[2] / "extension"


def test_what_a_phone_shares_is_searched_for(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png")])
    manifest = json.loads(server.client.get("/static/manifest.webmanifest").text)
    share = manifest["share_target"]
    assert (share["method"], share["enctype"]) == ("POST", "multipart/form-data")
    [file] = share["params"]["files"]
    answer = server.client.post(
        share["action"], files={file["name"]: ("photo.jpg", altered(png(1)))}, data={"text": ""}
    )
    assert "Same image" in server.client.get(answer.headers["location"]).text
    # A page is shared as a URL, or as a text that is one.
    for name in ("text", "url"):
        sent = {share["params"][name]: host.url("seed/1.png")}
        answer = server.client.post(share["action"], data=sent)
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        assert query["url"] == [host.url("seed/1.png")]
    for icon in manifest["icons"]:
        assert server.client.get(icon["src"]).headers["content-type"] == "image/png"
    assert "manifest-src 'self'" in server.client.get("/").headers["content-security-policy"]


def test_help_has_a_bookmark_of_this_server(server: Server) -> None:
    page = server.client.get("/help").text
    assert 'href="javascript:' in page
    assert server.address in page
    assert '<link rel="manifest"' in page


def test_the_extension_is_whole() -> None:
    manifest = json.loads((EXTENSION / "manifest.json").read_text())
    assert manifest["manifest_version"] == 3
    named = [manifest["background"]["service_worker"], manifest["options_ui"]["page"]]
    for name in [*named, *manifest["icons"].values()]:
        assert (EXTENSION / name).is_file()
