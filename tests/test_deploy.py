"""The files for hosts can be read, and name only settings, ports and files that exist."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
# What the image has beside our settings.
OTHERS = {"AWS_LWA_PORT", "AWS_LWA_READINESS_CHECK_PATH", "AWS_LWA_INVOKE_MODE"}


class Cloudformation(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation's functions."""


Cloudformation.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))


def read(path: str) -> Any:
    text = (DEPLOY / path).read_text("utf-8")
    if path.endswith(".toml"):
        return tomllib.loads(text)
    return yaml.load(text, Cloudformation)  # noqa: S506 - a safe loader


def assert_settings(names: set[str]) -> None:
    known = {name.upper() for name in Settings.model_fields} | OTHERS
    assert names <= known


def test_fly() -> None:
    given = read("fly/fly.toml")
    assert_settings(set(given["env"]) | set(given["build"]["args"]))
    assert given["http_service"]["internal_port"] == Settings.model_fields["port"].default
    assert given["http_service"]["checks"][0]["path"] == "/readyz"


def test_render() -> None:
    [service] = read("render/render.yaml")["services"]
    assert_settings({variable["key"] for variable in service["envVars"]})
    assert service["healthCheckPath"] == "/readyz"


def test_lambda() -> None:
    function = read("lambda/template.yaml")["Resources"]["Lookalike"]["Properties"]
    assert_settings(set(function["Environment"]["Variables"]))
    image = (DEPLOY / "lambda" / "Dockerfile").read_text("utf-8")
    named = re.findall(r"^(?:ENV| +) *([A-Z_]+)=", image, re.MULTILINE)
    assert named
    assert_settings(set(named))


def test_cloud_run() -> None:
    script = DEPLOY / "cloud-run" / "deploy.sh"
    text = script.read_text("utf-8")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    [plain] = re.findall(r'--set-env-vars "([^"]*)"', text)
    [secret] = re.findall(r'--set-secrets "([^"]*)"', text)
    assert_settings(set(re.findall(r"(?:^|,)([A-Z_]+)=", f"{plain},{secret}")))
    assert "deploy/cloud-run/cloudbuild.yaml" in text
    assert read("cloud-run/cloudbuild.yaml")["images"] == ["$_IMAGE"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_of_the_documentation_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
