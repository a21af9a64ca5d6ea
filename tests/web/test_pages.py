"""The pages as plain forms and links, over HTTP; `test_browser` uses them with JavaScript."""

import re
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from app.lookalike import Lookalike
from app.web.openapi import OPERATIONS, openapi_document
from app.web.server import create_app
from app.web.templating import Unindented, assets, templates
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, png


class Page(HTMLParser):
    """The text of a page, and its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [given.get(attribute) for name, given in self.elements if name == tag]

    def thumbnails(self) -> list[str]:
        return [src for src in self.values("img", "src") if src and src.endswith("/thumbnail")]


def get(server: Server, path: str) -> Page:
    answer = server.client.get(path)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def test_an_empty_index_says_how_to_fill_it(server: Server) -> None:
    page = get(server, "/")
    assert "The index is empty." in page.words
    assert "/add" in page.values("a", "href")


def test_a_posted_image_leads_to_results(server: Server, host: ImageHost) -> None:
    [outcome] = server.upsert([host.url("seed/1.png")])
    server.upsert([host.url("seed/2.png")])
    answer = server.client.post("/", files={"file": ("a.jpg", altered(png(1)))}, data={"url": ""})
    assert answer.status_code == 303
    page = get(server, answer.headers["location"])
    assert "1 image found" in page.words
    assert page.thumbnails()[0] == f"/images/{outcome['id']}/thumbnail"
    assert host.url("seed/1.png") in page.values("a", "href")
    assert outcome["id"] in page.values("button", "value")
    assert "Same image" in page.words
    assert "256 × 256 PNG" in page.words
    # As the chip in the box, and to draw a region on.
    [preview] = {src for src in page.values("img", "src") if src and "/uploads/" in src}
    assert server.client.get(preview).headers["content-type"] == "image/jpeg"
    # The other image is among the closest ones below the threshold.
    assert len(page.thumbnails()) == 2


def test_a_search_by_url_can_be_linked_to(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    for lowest, found in (("0.9", "1 image found"), ("-1", "2 images found")):
        query = f"/?url={host.url('seed/1.png')}&min_similarity={lowest}"
        page = get(server, query)
        assert found in page.words
        assert host.url("seed/1.png") in page.values("input", "value")


def test_nothing_above_the_threshold(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png")])
    answer = server.client.post("/", files={"file": ("a.png", png(50))})
    page = get(server, answer.headers["location"])
    assert "0 images found" in page.words
    assert "No image in the index is that similar" in page.words
    assert "The closest images" in page.words


@pytest.mark.parametrize(
    ("files", "data", "status", "words"),
    [
        (None, {"url": ""}, 400, "Upload an image"),
        (("a.txt", b"words"), {}, 415, "not an image"),
        (("a.png", png(1)[:400]), {}, 422, "damaged"),
        (None, {"url": "nonsense"}, 422, "not a complete http or https URL"),
        (None, {"url": "http://10.0.0.1/"}, 422, "neither public nor in FETCH_ALLOW"),
        (None, {"url": "http://10.0.0.1/", "min_similarity": "much"}, 422, "min_similarity"),
        (None, {"url": "http://10.0.0.1/", "colour": "red"}, 422, "colour: unknown field"),
    ],
)
def test_a_problem_is_shown_on_the_page_with_the_form(
    server: Server, files: tuple[str, bytes] | None, data: dict[str, str], status: int, words: str
) -> None:
    answer = server.client.post(
        "/", files={"file": files} if files else None, data=data, follow_redirects=True
    )
    page = Page(answer.text)
    assert answer.status_code == status
    assert words in page.words
    assert "file" in page.values("input", "name")
    assert "alert" in page.values("div", "role")


def test_invalid_filters_are_reported_with_and_without_a_query(server: Server) -> None:
    for path in ("/?box=1,2", "/?text=cat&box=1,2"):
        answer = server.client.get(path)
        assert answer.status_code == 422
        assert "west, south, east, north" in Page(answer.text).words
    # Parameters that other sites add to URLs do no harm.
    assert server.client.get("/?utm_source=mail").status_code == 200


def test_user_text_is_never_markup(server: Server, host: ImageHost) -> None:
    title = "<script>alert(1)</script>\"'"
    [outcome] = server.upsert([{"url": host.url("seed/1.png"), "title": title}])
    for path in ("/index", f"/images/{outcome['id']}", "/?url=%3Cscript%3Ealert(1)%3C/script%3E"):
        html = server.client.get(path).text
        assert "<script>" not in html


def test_the_index_page_creates_a_job_and_shows_it(server: Server, host: ImageHost) -> None:
    answer = server.client.post(
        "/index",
        data={"urls": f"{host.url('seed/1.png')}\n\n {host.url('status/404')} \n"},
        files=[
            ("file", ("a.png", png(2))),
            ("file", ("b.png", b"words")),
            ("file", ("list.csv", f"url,title\n{host.url('seed/3.png')},Third\n".encode())),
            ("file", ("", b"")),
        ],
    )
    assert answer.status_code == 303
    [job] = server.client.get("/api/jobs").json()["jobs"]
    assert answer.headers["location"] == f"/add#job-{job['id']}"
    ended = server.done(job["id"])
    assert (ended["indexed"], ended["failed"], ended["waiting"]) == (3, 2, 0)
    page = get(server, "/add")
    assert "3 indexed" in page.words
    assert "answers 404" in page.words
    assert "b.png" in page.words
    assert "not an image" in page.words
    assert "3 images in the index" in page.words
    assert "Third" in get(server, "/index").words


def test_job_buttons(server: Server, host: ImageHost) -> None:
    job = server.start([host.url("pictures/late.png")])
    assert server.done(job["id"])["failed"] == 1
    host.add("late.png", png(1))
    assert server.client.post(f"/index/jobs/{job['id']}/retry").status_code == 303
    assert server.done(job["id"])["indexed"] == 1
    assert server.client.post(f"/index/jobs/{job['id']}/delete").status_code == 303
    assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404
    assert server.client.post(f"/index/jobs/{job['id']}/cancel").status_code == 404
    assert server.client.post("/index/jobs/1/burn").status_code == 404


def test_an_empty_index_form_says_what_to_enter(server: Server) -> None:
    page = Page(server.client.post("/index", data={"urls": ""}).text)
    assert "one per line" in page.words
    assert "0 images in the index" in page.words


def test_the_index_page_links_to_older_images(
    server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.index_pages.IMAGES_PER_PAGE", 2)
    for seed in range(3):
        server.upsert([host.url(f"seed/{seed}.png")])
    first = get(server, "/index")
    [older] = [href for href in first.values("a", "href") if href and "cursor" in href]
    assert older is not None
    second = get(server, older)
    assert len(first.thumbnails()) == 2
    assert len(second.thumbnails()) == 1
    assert not set(first.thumbnails()) & set(second.thumbnails())


def test_an_image_page_shows_details_and_duplicates(server: Server, host: ImageHost) -> None:
    details = {"title": "Discs", "description": "Many of them", "tags": ["round"]}
    first, second = server.upsert(
        [{"url": host.url("seed/1.png"), **details}, host.add("copy.jpg", altered(png(1)))]
    )
    page = get(server, f"/images/{first['id']}")
    for words in (
        "Discs",
        "Many of them",
        "round",
        "256 × 256",
        "PNG",
        "The same image",
    ):
        assert words in page.words
    assert f"/images/{second['id']}/thumbnail" in page.thumbnails()


def test_the_docs_page_lists_every_operation(server: Server) -> None:
    page = get(server, "/docs")
    for path in server.client.get("/openapi.json").json()["paths"]:
        assert path in page.words


def test_the_docs_page_says_what_the_document_says(server: Server) -> None:
    text = server.client.get("/docs", headers={"accept": "text/html"}).text
    parsed = unescape(text).replace("<code>", "`").replace("</code>", "`")
    for operation in OPERATIONS:
        document = openapi_document()["paths"][operation.path][operation.method]
        assert f'href="#{operation.name}"' in text
        start = parsed.index(f'<div id="{operation.name}">')
        part = parsed[start : parsed.index("</details>", start)]
        assert operation.curl(server.address) in part
        for parameter in document.get("parameters", []):
            assert f"`{parameter['name']}`" in part
            assert parameter.get("description", "") in part
    # Folded, it is short: what is open is the table of contents, and a line for each.
    assert text.count("<details") >= len(OPERATIONS)
    assert "<details open" not in text


def test_links_of_the_docs_page_lead_somewhere(server: Server) -> None:
    text = server.client.get("/docs", headers={"accept": "text/html"}).text
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_the_docs_page_lists_the_problems_of_requests_only(server: Server) -> None:
    page = get(server, "/docs")
    assert "not-a-picture" in page.words
    for slug in ("start-problem", "wrong-setting", "port-taken"):
        assert slug not in page.words


def test_the_text_field_depends_on_the_encoder(
    silent: Server, reading: Lookalike, loop: Loop, host: ImageHost
) -> None:
    def hints(page: Page) -> str:
        return " ".join(hint for hint in page.values("input", "placeholder") if hint)

    assert "Search titles, descriptions" in hints(get(silent, "/"))
    with loop.serving(create_app(reading)) as address, client_of(address) as client:
        client.post("/api/upsert", json={"images": [host.url("seed/1.png")]})
        assert "Search by words" in hints(Page(client.get("/").text))
        assert "Best matches" in Page(client.get("/?text=a+cat").text).words
        answer = client.post("/api/search", json={"text": "a cat"}).json()
        assert answer["results"][0]["match"] is None


def test_templates_escape_values() -> None:
    template = templates.env.from_string("{{ given }}")
    assert template.render(given="<b>") == "&lt;b&gt;"


def test_the_parts_of_a_search_are_chips_with_weights(server: Server, host: ImageHost) -> None:
    [outcome] = server.upsert([{"url": host.url("seed/1.png"), "title": "Discs"}])
    page = get(server, f"/?text=red+boat+-+2:snow+%2B+{outcome['id']}")
    assert page.values("option", "value")[:8] == [
        "-2.0",
        "-1.0",
        "-0.5",
        "0.5",
        "1.0",
        "2.0",
        "3.0",
        "-2.0",
    ]
    assert "red boat" in page.words
    assert f"/images/{outcome['id']}/thumbnail" in page.thumbnails()
    assert "/?text=red+boat+-+2%3Asnow" in page.values("a", "href")
    # What the form sends: the parts with their weights, and what was typed.
    sent = {"parts": "red boat - 2:snow", "weight": ["0.5", "2"], "text": "- tree"}
    answer = server.client.post("/", data=sent)
    assert answer.headers["location"] == "/?text=0.5%3Ared+boat+%2B+2%3Asnow+-+tree"
    # A phrase alone stays as it was typed.
    assert "red boat" in get(server, "/?text=red+boat").values("input", "value")


def test_a_url_in_the_box_is_the_query_image(server: Server, host: ImageHost) -> None:
    url = host.url("seed/1.png")
    sent = {"text": url, "upload": "7f2c9a51-5d0e-4b8e-9a53-0d8e3c1f6b11", "parts": "a - b"}
    answer = server.client.post("/", data=sent)
    location = httpx.URL(answer.headers["location"])
    assert dict(location.params) == {"url": url, "text": "a - b"}


def test_searches_that_were_shared_before_the_box_still_work(
    server: Server, host: ImageHost
) -> None:
    [one, two] = server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    for query in (
        f"text={host.url('seed/1.png')}",
        f"url={host.url('seed/1.png')}&min_similarity=-1&match=copy&sort=newest",
        f"like={one['id']}&unlike={two['id']}&tags=",
        "text=boat&panel=filters&formats=png&diversity=0.5",
    ):
        get(server, f"/?{query}")


def test_filters_are_kept_where_their_panel_is_closed(server: Server, host: ImageHost) -> None:
    server.upsert([{"url": host.url("seed/1.png"), "tags": ["a b"]}])
    closed = server.client.get("/?text=boat&tags=a+b&min_width=1").text
    for name, value in (("tags", "a b"), ("min_width", "1")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in closed
    opened = server.client.get("/?text=boat&tags=a+b&panel=filters").text
    assert '<input type="hidden" name="tags"' not in opened


def test_words_that_end_like_numbers_are_no_numbers(server: Server, host: ImageHost) -> None:
    for seed, note in enumerate(("a=5", "a=6")):
        server.upsert([{"url": host.url(f"seed/{seed}.png"), "metadata": {"note": note}}])
    page = server.client.get("/?panel=filters")
    assert page.status_code == 200
    assert "note=a=5" in page.text


def test_templates_lose_their_indentation_and_no_space_between_words() -> None:
    for path in assets("templates").iterdir():
        source = path.read_text()
        shown = Unindented(templates.env).preprocess(source, path.name)
        assert shown.split() == source.split()
        assert re.sub(r"\s+", " ", shown) == re.sub(r"\s+", " ", source)
        assert "  " not in re.findall(r"^ *", shown, re.MULTILINE)


def test_a_caption_is_apart_from_what_follows_it(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    ids = [image["id"] for image in server.client.get("/api/images").json()["images"][:2]]
    page = server.client.get("/compare", params=dict(zip("ab", ids, strict=True))).text
    assert re.search(r"</a>\s+<span class=.quiet.>256 × 256", page)
