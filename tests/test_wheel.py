"""A wheel is complete: a server from one, installed elsewhere, shows its pages and finds copies."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest

from tests.samples import altered, png

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and the libraries of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # What is in the image's build context, so that the build writes nothing here.
    for name in (
        "app",
        "lookalike",
        "templates",
        "static",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        (source / name).symlink_to(ROOT / name)
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
        "--no-index", "-w", str(folder), str(source),
    )  # fmt: skip
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    [wheel] = folder.glob("*.whl")
    [packages] = folder.glob("venv/lib/python*/site-packages")
    run(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target",
        str(packages), str(wheel),
    )  # fmt: skip
    # Everything but the editable install of this checkout, whose finder is a .pth file.
    libraries = Path(pytest.__file__).parent.parent
    (packages / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(libraries)!r})")
    return python


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_server_from_the_wheel_serves_pages_and_searches(
    installed: Path, database_url: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [installed, "-m", "app", "serve", "--port", "0"],
        env={**os.environ, "ENCODER": "builtin", "DATABASE_URL": database_url},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = [process.stderr.readline()]
        while said[-1] and "is running at http://" not in said[-1]:
            said.append(process.stderr.readline())
        assert said[-1], "".join(said)
        address = said[-1].split("is running at ")[1].split()[0]
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            page = client.get("/")
            assert (page.status_code, "<title>" in page.text) == (200, True)
            style = client.get("/static/style.css")
            assert (style.status_code, style.headers["content-type"][:8]) == (200, "text/css")
            client.post("/api/images", files={"file": ("a.png", png(1))}).raise_for_status()
            assert len(client.post("/api/query", files={"file": altered(png(1))}).json()) == 1
        where = [installed, "-c", "import app; print(app.__file__)"]
        found = subprocess.run(where, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert str(installed.parent.parent) in found.stdout
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def test_a_wheel_has_what_its_migrations_read(installed: Path, tmp_path: Path) -> None:
    code = (
        "from app.store.database import MIGRATIONS; "
        "print(*(path.name for path in (MIGRATIONS / 'procrastinate').iterdir()))"
    )
    found = subprocess.run(
        [installed, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(found.stdout.split()) == {"schema-3.10.0.sql", "LICENSE.md"}
