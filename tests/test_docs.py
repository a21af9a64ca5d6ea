"""The documentation says what the program does."""

import re
from pathlib import Path

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from app.lookalike import Lookalike
from app.settings import Settings
from app.web.openapi import OPERATIONS, openapi_document
from app.web.server import create_app
from tests.conftest import Server
from tests.process import lookalike as run

ROOT = Path(__file__).parent.parent
ENV_EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def defaults() -> dict[str, str]:
    shown: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown[name.upper()] = "" if default in (None, ()) else str(default)
    return shown


def test_env_example_lists_every_setting_with_its_default() -> None:
    listed = dict(re.findall(r"^# ?([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    assert {name: value.strip() for name, value in listed.items()} == defaults()


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \|(.*?)\|", README, re.MULTILINE))
    assert {name: value.strip("` ") for name, value in rows.items()} == defaults()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description in " ".join(re.sub(r"^# ?", "", ENV_EXAMPLE, flags=re.MULTILINE).split())


def test_openapi_is_valid() -> None:
    validate(openapi_document())


def test_openapi_lists_the_routes_that_answer_programs(lookalike: Lookalike) -> None:
    routes = {
        (method.lower(), re.sub(":(uuid|job)", "", route.path))
        for route in create_app(lookalike).routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    pages = {"/", "/index", "/docs", "/duplicates", "/trash", "/images/{id}", "/openapi.json"}
    pages |= {"/uploads/{id}", "/compare", "/people", "/people/{id}"}
    pages |= {"/add", "/help", "/index/images", "/index/jobs/clear"}
    pages |= {"/index/events", "/index/jobs/{id}/{action}"}
    listed = {(operation.method, operation.path) for operation in OPERATIONS}
    assert listed == {(method, path) for method, path in routes if path not in pages}


def test_openapi_is_served(server: Server) -> None:
    assert server.client.get("/openapi.json").json() == openapi_document()


def test_the_readme_names_every_command() -> None:
    told = run("--help").stdout
    commands = re.findall(r"^  ([a-z]+)  ", told.partition("Commands:")[2], re.MULTILINE)
    assert commands
    for command in commands:
        assert f"lookalike {command}" in README


def test_the_readme_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_design_lists_every_module() -> None:
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    for path in sorted((ROOT / "app").rglob("*.py")):
        module = path.relative_to(ROOT / "app").as_posix()
        if path.name != "__init__.py" and "versions" not in path.parts:
            assert f"`{module}`" in design, module


def test_the_design_lists_no_module_that_is_gone() -> None:
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    for row in re.findall(r"^\| (.+?) \|", design, re.MULTILINE):
        for module in re.findall(r"`(.+?)`", row):
            assert (ROOT / "app" / module).exists(), module
