"""Puts the Milvus of the slow tests into the environment's folder: `python -m tests.milvus_setup`.

The package `milvus` is no dependency: it is a server of 58 MB, and only unpacked, not installed.
"""

import subprocess
import sys

from tests.milvus_server import PACKAGE

VERSION = "2.3.5"


def main() -> None:
    if (PACKAGE / "milvus").exists():
        return
    print(f"Fetching Milvus {VERSION} for the slow tests (once)", flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    chosen = ["--no-deps", "--target", str(PACKAGE), f"milvus=={VERSION}"]
    subprocess.run([*pip, "install", *chosen], check=True)


if __name__ == "__main__":
    main()
