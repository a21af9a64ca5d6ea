"""Picture files where they lie: on this machine, or in any storage that fsspec knows."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import fsspec

from app.pictures.decoding import SUFFIXES
from app.problems import NotAPicture, NotFound, PictureTooLarge, WrongSetting


def file_title(url: str) -> str:
    """Return a file's name without its ending."""
    return Path(unquote(url)).stem


def find_files(place: str) -> Iterator[str]:
    """Yield the URLs of the picture files under a folder, or of the one that `place` names.

    Folders are read one at a time, in order; what is hidden is left out. Raises `NotFound`.
    """
    files, root = _opened(place)
    info = _info(files, root)
    if info["type"] != "directory":
        yield _url(files, root)
        return
    for folder, folders, found in files.walk(root, detail=True):
        for name in [n for n, f in folders.items() if n.startswith(".") or f.get("islink")]:
            del folders[name]
        for name in sorted(found):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield _url(files, f"{folder.rstrip('/')}/{name}")


def exists(url: str) -> bool:
    """Return whether there is still a file at the URL."""
    files, path = _opened(url)
    return bool(files.exists(path))


def read_file(
    url: str, *, max_bytes: int, unless_etag: str | None = None
) -> tuple[bytes | None, str]:
    """Return a file's bytes, or None if its etag is still this one, and its etag.

    Raises `NotFound`, `NotAPicture` or `PictureTooLarge`.
    """
    files, path = _opened(url)
    info = _info(files, path)
    etag: str = _etag(info)
    if etag == unless_etag:
        return None, etag
    if (info.get("size") or 0) > max_bytes:
        raise PictureTooLarge.over(max_bytes)
    try:
        data: bytes = files.cat_file(path)
    except OSError as exc:
        raise NotAPicture(f"The file cannot be read: {exc.strerror or exc}.") from exc
    return data, etag


def _opened(url: str) -> tuple[Any, str]:
    place = unquote(url) if url.startswith("file:") else url
    if "://" not in place:
        place = str(Path(place).resolve())
    try:
        opened = cast(tuple[Any, str], fsspec.url_to_fs(place))
    except (ImportError, ValueError) as exc:
        raise WrongSetting(f"{url} cannot be opened: {exc}") from exc
    return opened


def _info(files: Any, path: str) -> dict[str, Any]:
    try:
        return files.info(path)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {path}.") from exc
    except OSError as exc:
        raise NotAPicture(f"The file cannot be read: {exc.strerror or exc}.") from exc


def _url(files: Any, path: str) -> str:
    return Path(path).as_uri() if "file" in files.protocol else files.unstrip_protocol(path)


def _etag(info: Mapping[str, Any]) -> str:
    """Return what the storage itself calls the content's version, or size and time of change."""
    known = info.get("ETag") or info.get("etag")
    if known:
        return str(known)
    changed = info.get("mtime") or info.get("LastModified") or info.get("created")
    return hashlib.sha256(f"{info.get('size')} {changed}".encode()).hexdigest()[:32]
