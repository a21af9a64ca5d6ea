"""Finds and reads image files, on this machine or in any storage that fsspec supports.

Local files are opened without fsspec: `::` has no special meaning in their names, and opening a
pipe or a device never blocks.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, unquote_to_bytes

import fsspec

from app.indexing.passed_over import PassedOver
from app.pictures.decoding import SUFFIXES
from app.problems import NotAPicture, NotFound, PictureTooLarge, Problem, WrongSetting

# The start of a URL, or of an fsspec chain (`simplecache::s3://…`).
_URL = re.compile(r"([a-z][a-z0-9+.-]*)(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
NOT_REGULAR = "It is not a regular file, but a folder, a pipe, a socket or a device."


def file_title(url: str) -> str:
    """Return a file's name without its suffix."""
    return Path(unquote(url)).stem


def is_local(place: str) -> bool:
    """Return whether a path or URL names a file or folder on this machine."""
    found = _URL.match(place)
    return found is None or found[0].lower() in ("file://", "local://")


def local_path(place: str) -> str:
    """Return a path or a `file:` URL as an absolute path, which may contain any byte.

    Raises `NotFound` for the URL of a file on another machine.
    """
    scheme, separator, rest = place.partition(":")
    if separator and scheme.lower() in ("file", "local") and rest.startswith("/"):
        host, slash, below = rest.removeprefix("//").partition("/")
        if rest.startswith("//") and host.lower() not in ("", "localhost"):
            raise NotFound(f"{place} is a file on another machine.")
        path = slash + below if rest.startswith("//") else rest
        return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
    return os.path.realpath(place)


def local_url(path: str) -> str:
    """Return the `file:` URL of an absolute path, reversible whatever bytes the path has."""
    return Path(path).as_uri()


def find_files(place: str, *, passed_over: PassedOver | None = None) -> Iterator[str]:
    """Yield the URLs of the image files under a folder, or of the one file that `place` names.

    Folders are read one at a time, in order. Hidden files are skipped, and files that cannot be
    indexed are counted in `passed_over`. Raises `NotFound`.
    """
    if passed_over is None:
        passed_over = PassedOver()
    if is_local(place):
        yield from _find_local(local_path(place), passed_over)
    else:
        yield from _find_elsewhere(place, passed_over)


def exists(url: str) -> bool:
    """Return whether a file still exists at the URL."""
    if is_local(url):
        return os.path.isfile(local_path(url))  # noqa: PTH113
    files, path = storage_of(url)
    return bool(files.exists(path))


def read_file(
    url: str, *, max_bytes: int, unless_etag: str | None = None
) -> tuple[bytes | None, str]:
    """Return a file's bytes and etag; instead of bytes, None if the etag is `unless_etag`.

    Never uses more than `max_bytes`. Raises `NotFound`, `NotAPicture` or `PictureTooLarge`.
    """
    if is_local(url):
        with open_regular(local_path(url)) as file:
            status = os.fstat(file.fileno())
            etag = _hashed(f"{status.st_size} {status.st_mtime}")
            data = None if etag == unless_etag else _read(file, max_bytes)
        return data, etag
    try:
        return _read_elsewhere(url, max_bytes, unless_etag)
    except Problem:
        raise
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {url}.") from exc
    except Exception as exc:
        # Each kind of storage raises errors of its own.
        raise NotAPicture(f"The file cannot be read: {_reason(exc)}.") from exc


def _read_elsewhere(url: str, max_bytes: int, unless_etag: str | None) -> tuple[bytes | None, str]:
    files, path = storage_of(url)
    info = files.info(path)
    etag = etag_of(info)
    if etag == unless_etag:
        return None, etag
    if (info.get("size") or 0) > max_bytes:
        raise PictureTooLarge.over(max_bytes)
    with files.open(path, "rb") as file:
        return _read(file, max_bytes), etag


def open_regular(path: str) -> BinaryIO:
    """Open a local file, but no pipe or device, which could block.

    Raises `NotFound` or `NotAPicture`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(f"There is no file {_printable(path)}.") from exc
    except (OSError, ValueError) as exc:
        if _is_special(path):
            raise NotAPicture(NOT_REGULAR) from exc
        raise NotAPicture(f"The file cannot be read: {_reason(exc)}.") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAPicture(NOT_REGULAR)
    return os.fdopen(descriptor, "rb")


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    """Read a file up to the limit, whatever its reported size."""
    try:
        data = file.read(max_bytes + 1)
    except OSError as exc:
        raise NotAPicture(f"The file cannot be read: {_reason(exc)}.") from exc
    if len(data) > max_bytes:
        raise PictureTooLarge.over(max_bytes)
    return data


def _find_local(root: str, passed_over: PassedOver) -> Iterator[str]:
    if not os.path.isdir(root):  # noqa: PTH112
        if not os.path.lexists(root):
            raise NotFound(f"There is no file {_printable(root)}.")
        yield local_url(root)
        return
    # os.walk would otherwise skip unreadable folders silently.
    walked = os.walk(root, onerror=lambda _: passed_over.add_folder())
    for folder, folders, names in walked:
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118
            if _is_wanted(name, passed_over):
                if os.path.isfile(path):  # noqa: PTH113
                    yield local_url(path)
                else:
                    passed_over.add_special(name)


def _find_elsewhere(place: str, passed_over: PassedOver) -> Iterator[str]:
    files, root = storage_of(place)
    try:
        is_folder = files.info(root)["type"] == "directory"
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {root}.") from exc
    except Exception as exc:
        raise NotAPicture(f"{place} cannot be read: {exc}.") from exc
    if not is_folder:
        yield files.unstrip_protocol(root)
        return
    for folder, folders, found in files.walk(root, detail=True):
        for name in [n for n, f in folders.items() if n.startswith(".") or f.get("islink")]:
            del folders[name]
        for name in sorted(found):
            if _is_wanted(name, passed_over):
                yield files.unstrip_protocol(f"{folder.rstrip('/')}/{name}")


def _is_wanted(name: str, passed_over: PassedOver) -> bool:
    """Return whether a name is that of an image; count it if it is a RAW file or a video."""
    if name.startswith("."):
        return False
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if suffix in SUFFIXES:
        return True
    passed_over.add(suffix)
    return False


def storage_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path within it."""
    try:
        return cast(tuple[Any, str], fsspec.url_to_fs(url))
    except Exception as exc:
        raise WrongSetting(f"{url} cannot be opened: {exc}") from exc


def etag_of(info: dict[str, Any]) -> str:
    """Return the storage's own etag, or a hash of size and modification time."""
    known = info.get("ETag") or info.get("etag")
    if known:
        return str(known)
    changed = info.get("mtime") or info.get("LastModified") or info.get("created")
    return _hashed(f"{info.get('size')} {changed}")


def _hashed(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()[:32]


def _is_special(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode)


def _printable(path: str) -> str:
    return path.encode("utf-8", "replace").decode()


def _reason(exc: Exception) -> str:
    return str((exc.strerror if isinstance(exc, OSError) else None) or exc)
