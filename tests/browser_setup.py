"""Installs a Chromium for the browser tests if there is none: `python -m tests.browser_setup`.

As root on Debian, that of the distribution, otherwise Playwright's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def installed() -> str | None:
    """Return the path of an installed browser."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def main() -> None:
    if installed() or _own():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium from the distribution, for the browser tests (once)", flush=True)
        quiet = {
            "stdout": subprocess.DEVNULL,
            "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        }
        subprocess.run(["apt-get", "-qq", "update"], check=False, **quiet)
        subprocess.run(
            ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium"],
            check=False,
            **quiet,
        )
        if installed():
            return
    print("Installing Playwright's Chromium, for the browser tests (once)", flush=True)
    done = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    if done.returncode:
        sys.exit("The browser tests need a Chromium: install one, then run this again.")


def _own() -> bool:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


if __name__ == "__main__":
    main()
