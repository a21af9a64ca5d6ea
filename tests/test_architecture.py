"""The drawing in docs/design.md, kept true: import-linter's contracts and ruff's banned imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_point_one_way_and_libraries_have_their_places() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_have_a_readable_size() -> None:
    for path in (ROOT / "app").rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path
