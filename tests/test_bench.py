"""The measurements of docs/reliability.md run, and what they promise is kept on a small scale."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("bench.loadtest", "--clients", "8", "--seconds", "5"),
        ("bench.faults", "--rounds", "5"),
        ("bench.workers", "--workers", "1", "2"),
    ],
    ids=["loadtest", "faults", "workers"],
)
def test_a_small_measurement(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
