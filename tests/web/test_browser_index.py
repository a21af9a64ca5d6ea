"""Adding images, and keeping the index in order, in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import encode, photo, png


def names(page: Page) -> list[str]:
    return [name.strip() for name in page.locator("#indexed .caption").all_inner_texts()]


def test_chosen_images_go_to_the_trash_and_come_back(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/index?sort=oldest")
    first, second, third = names(page)[:3]
    expect(page.get_by_text("None selected")).to_be_visible()
    page.get_by_label(f"Select {first}").check()
    page.get_by_label(f"Select {third}").click(modifiers=["Shift"])
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.get_by_label(f"Select {third}").uncheck()
    page.get_by_text("Move to trash").click()
    # It asks once.
    page.get_by_role("button", name="Yes, move the selected images").click()
    expect(page.get_by_role("heading", name="5 images in the index")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("2 images moved to the trash")
    assert names(page)[0] == third
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="7 images in the index")).to_be_visible()
    page.get_by_role("button", name="Select all").click()
    expect(page.get_by_text("7 selected")).to_be_visible()
    page.get_by_label("Tag to add").fill("sea")
    page.get_by_role("button", name="Add tag").click()
    page.get_by_role("searchbox").fill("sea")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", name="7 images found")).to_be_visible()
    page.get_by_role("button", name="Select all").click()
    page.get_by_text("Move to trash").click()
    page.get_by_role("button", name="Yes, move the selected images").click()
    expect(page.get_by_role("status")).to_contain_text("7 images moved to the trash")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="7 images in the index")).to_be_visible()
    page.goto("/trash")
    expect(page.get_by_text("The trash is empty")).to_be_visible()
    page.goto("/index?sort=oldest")
    page.get_by_label(f"Select {second}").check()
    page.get_by_text("Move to trash").click()
    page.get_by_role("button", name="Yes, move the selected images").click()
    page.get_by_role("status").get_by_role("link", name="trash").click()
    expect(page.get_by_role("button", name=f"Restore {second}")).to_be_visible()


def test_many_images_are_edited_at_once(indexed: Server, new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)

    def edit(field: str, how: str, text: str, *chosen: str) -> None:
        page.goto("/index?sort=oldest")
        for name in chosen:
            page.get_by_label(f"Select {name}", exact=True).check()
        page.get_by_text("Edit", exact=True).click()
        page.locator("[name=field]").select_option(field)
        page.get_by_label("How").select_option(how)
        page.get_by_label("Text", exact=True).fill(text)
        page.get_by_role("button", name="Edit selected images").click()

    page.goto("/index?sort=oldest")
    first, second, third = names(page)[:3]
    edit("title", "Replace with", "Harbour", first, second)
    expect(page.get_by_role("status")).to_contain_text("2 images edited")
    assert names(page)[:3] == ["Harbour", "Harbour", third]
    edit("title", "Add at the end", "at night", third)
    assert names(page)[2] == "at night"
    edit("description", "Add at the end", "Hamburg", "at night")
    edit("tags", "Add at the end", "sea, boat", "at night")
    edit("tags", "Remove", "Boat", "at night")
    [image] = indexed.client.get("/api/images?q=at night").json()["images"]
    assert (image["title"], image["description"], image["tags"]) == ("at night", "Hamburg", ["sea"])
    edit("tags", "Add at the end", "  ", "at night")
    expect(page.get_by_role("alert")).to_contain_text("enter what to add")


@pytest.mark.parametrize("has_script", [True, False])
@pytest.mark.parametrize("width", [390, 1280])
def test_all_that_match_are_selected_at_once(
    indexed: Server,
    new_page: Callable[..., Page],
    monkeypatch: pytest.MonkeyPatch,
    has_script: bool,
    width: int,
) -> None:
    for module in ("app.jobs.jobs", "app.web.index_pages"):
        monkeypatch.setattr(f"{module}.MANY", 3)
    monkeypatch.setattr("app.web.index_pages.IMAGES_PER_PAGE", 2)
    page = new_page(java_script_enabled=has_script, viewport={"width": width, "height": 844})
    page.goto("/index?sort=oldest")
    everything = page.get_by_label("Select all 7 images in the index")
    everything.focus()
    page.keyboard.press("Space")
    if has_script:
        expect(page.get_by_text("All selected")).to_be_visible()
        # Who leaves one out means those of the page again.
        page.locator("[name=ids]").first.uncheck()
        expect(everything).not_to_be_checked()
        everything.check()
    page.get_by_text("Edit", exact=True).click()
    expect(page.get_by_role("button", name="Edit all 7 images in the index")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_text("Edit", exact=True).click()
    page.get_by_text("Move to trash").click()
    page.get_by_role("button", name="Yes, move all 7 images in the index").click()
    expect(page.get_by_role("heading", name="Move to the trash")).to_be_visible()
    expect(page.get_by_text("done, 7 images")).to_be_visible()
    # It reloads by itself, with or without a script.
    expect(page.get_by_role("heading", name="0 images in the index")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("7 images moved to the trash")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="7 images in the index")).to_be_visible()


def test_the_list_is_sorted_by_size(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    indexed.upsert([host.add("big.bmp", encode(photo(9).resize((600, 500)), "BMP"))])
    indexed.upsert([host.add("tiny.png", encode(photo(9).resize((64, 64)), "PNG"))])
    page = new_page()
    page.goto("/index")
    for label, name in (
        ("Most pixels first", "big.bmp"),
        ("Fewest pixels first", "tiny.png"),
        ("Largest files first", "big.bmp"),
    ):
        page.get_by_label("Sort by").select_option(label)
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#indexed .caption").first).to_have_text(name)


def test_an_image_is_deleted_from_its_page_and_restored(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    [image] = indexed.client.get("/api/images?limit=1").json()["images"]
    page = new_page(java_script_enabled=False)
    page.goto(f"/images/{image['id']}")
    page.get_by_text("Edit or delete").click()
    page.get_by_text("Move to trash").click()
    page.get_by_role("button", name="Yes, move it to the trash").click()
    expect(page.get_by_role("status")).to_contain_text("1 image moved to the trash")
    page.get_by_role("button", name="Undo").click()
    assert indexed.client.get(f"/api/images/{image['id']}").status_code == 200


def test_an_interrupted_upload_goes_on_when_the_folder_is_chosen_again(
    server: Server, new_page: Callable[..., Page], tmp_path: Path
) -> None:
    folder = tmp_path / "holidays"
    folder.mkdir()
    for seed in range(12):
        (folder / f"{seed:02}.png").write_bytes(png(seed))
    page = new_page()
    page.goto("/add")
    sent: list[str] = []

    def refuse(route: Route) -> None:
        sent.append(route.request.url)
        if len(sent) == 1:
            # The job is there from the first file on.
            expect(page.locator(".job")).to_have_count(1)
            route.continue_()
        else:
            route.fulfill(status=429, json={"detail": "Too much at once."})

    page.route("**/api/images?job=*", refuse)
    page.set_input_files("#folder", folder)
    page.get_by_role("button", name="Add to index").click()
    expect(page.get_by_role("alert")).to_contain_text("Too much at once")
    expect(page.locator("#interrupted")).to_contain_text(
        "The upload of “holidays” was interrupted: 9 of 12 files have arrived."
    )
    page.unroute("**/api/images?job=*")
    page.reload()
    expect(page.locator("#interrupted")).to_contain_text("Choose this folder again")
    page.set_input_files("#folder", folder)
    page.get_by_role("button", name="Add to index").click()
    expect(page.locator(".job .badge.indexed")).to_have_text("12 indexed")
    expect(page.locator(".job")).to_have_count(1)
    expect(page.locator("#interrupted")).to_be_hidden()
    expect(page.get_by_role("link", name="12 images in the index")).to_be_visible()
    page.reload()
    expect(page.locator("#interrupted")).to_be_hidden()


def test_finished_jobs_are_folded_and_cleared_together(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    for name in ("a.png", "b.png"):
        server.done(server.start([host.add(name, png(1)), host.url("status/404")])["id"])
    host.open.clear()
    server.start([host.add("late.png", png(3)) + "?gate=1"])
    page = new_page()
    page.goto("/add")
    expect(page.locator(".job[open]")).to_have_count(1)
    folded = page.locator(".job:not([open])")
    expect(folded).to_have_count(2)
    expect(folded.first.get_by_text("1 failed")).to_be_visible()
    expect(folded.first.get_by_text("answers 404")).to_be_hidden()
    folded.first.locator("summary").click()
    expect(page.get_by_text("answers 404").first).to_be_visible()
    page.get_by_role("button", name="Clear finished jobs").click()
    expect(page.locator(".job")).to_have_count(1)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    host.open.set()


def test_what_is_dropped_on_the_page_is_added(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/add")
    page.evaluate(
        """(url) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.setData("text/uri-list", url);
          const options = { dataTransfer, bubbles: true, cancelable: true };
          document.dispatchEvent(new DragEvent("drop", options));
        }""",
        host.url("seed/2.png"),
    )
    expect(page.locator(".job .badge.indexed")).to_have_text("1 indexed")
