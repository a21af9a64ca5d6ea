"""What clients send as forms and query strings, read without trust in any of it.

Starlette's parser takes a part for a file only if it has a `filename`, which RFC 7578 (4.2) does
not demand, and guesses at text that is not in UTF-8.
"""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, get_args, get_origin
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.indexing.requests import MAX_TITLE, MODEL, is_storable, parse
from app.problems import InvalidRequest
from app.store.database import storable
from app.web.requests import Request, small_body

FILE = "file"
MAX_FIELDS = 1000
_CHARSET = re.compile(r";\s*charset\s*=[^;]*", re.IGNORECASE)
# RFC 5987's extended notation: a charset, a language and percent-encoded bytes.
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*\"?([\w-]*)'[\w-]*'([^;\s\"]*)", re.IGNORECASE)


@asynccontextmanager
async def form_of(request: Request, *, max_files: int = MAX_FIELDS) -> AsyncGenerator[FormData]:
    """Read a form, which is empty if the body is none; its files are closed at the end.

    Raises `InvalidRequest` or `BodyTooLarge`.
    """
    kind = _kind(request)
    form = FormData()
    if kind == "multipart/form-data":
        form = await _multipart(request, max_files)
    elif kind == "application/x-www-form-urlencoded":
        fields = _fields(await small_body(request))
        for name, value in fields:
            _refuse_mangled(name, value)
        form = FormData(list[tuple[str, str | UploadFile]](fields))
    try:
        yield form
    finally:
        await form.close()


def is_form(request: Request) -> bool:
    """Return whether the body is a form."""
    return _kind(request) in ("multipart/form-data", "application/x-www-form-urlencoded")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def query_fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a query string; bytes that are not UTF-8 become lone surrogates.

    `parse` refuses those by the field's name.
    """
    return _fields(request.scope["query_string"])


def parse_query(request: Request, model: type[MODEL]) -> MODEL:
    """Return a query string as a model; raises `InvalidRequest`."""
    return parse(model, values_of(query_fields(request), model))


def values_of(items: Iterable[tuple[str, str]], model: type[BaseModel]) -> dict[str, Any]:
    """Return the values of fields by name: every one of a list, and the last of anything else."""
    lists = {name for name, field in model.model_fields.items() if _is_list(field.annotation)}
    values: dict[str, Any] = {}
    for name, value in items:
        if name in lists:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def _is_list(annotation: Any) -> bool:
    kinds = {get_origin(kind) for kind in (annotation, *get_args(annotation))}
    return bool(kinds & {list, dict, tuple})


def file_name(given: str) -> str:
    """Return the name of a file without its path, as it can be stored."""
    return re.split(r"[/\\]", storable(given))[-1].strip()[:MAX_TITLE]


async def _multipart(request: Request, max_files: int) -> FormData:
    # A charset here names that of no part (RFC 7578, 5.1).
    kind = _CHARSET.sub("", request.headers["content-type"])
    parser = _Parser(
        Headers({"content-type": kind}),
        request.stream(),
        max_files=max_files,
        max_fields=MAX_FIELDS,
    )
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise _malformed(f"The form cannot be read: {exc.message}") from exc
    except ValueError as exc:
        raise _malformed("The form cannot be read: it is not valid multipart/form-data.") from exc
    if not parser.has_ended:
        parser.close()
        raise _malformed("The form cannot be read: it ends before its last boundary.")
    return form


class _Parser(MultiPartParser):
    """Takes parts named `file`, and those that say they are an image, for files in any case."""

    has_ended = False

    def on_end(self) -> None:
        """Note that the last boundary was found."""
        self.has_ended = True

    def close(self) -> None:
        """Close the files of the form."""
        for file in self._files_to_close_on_error:
            file.close()

    def on_headers_finished(self) -> None:
        """Begin a part."""
        part = self._current_part
        headers = dict(part.item_headers)
        disposition = part.content_disposition or b""
        extended = _EXTENDED_NAME.search(disposition)
        kind = headers.get(b"content-type", b"").strip().lower()
        if extended or kind.startswith(b"image/") or kind == b"application/octet-stream":
            part.content_disposition = _with_file_name(disposition)
        super().on_headers_finished()
        if part.file is None and part.field_name == FILE:
            self._current_fields -= 1
            part.content_disposition = _with_file_name(disposition)
            super().on_headers_finished()
        if part.file is not None:
            given = _extended(*extended.groups()) if extended else part.file.filename or ""
            part.file.filename = file_name(given)

    def on_part_end(self) -> None:
        """End a part; raises `InvalidRequest` for a text that is not in UTF-8."""
        part = self._current_part
        if part.file is not None:
            super().on_part_end()
            return
        value = part.data.decode("utf-8", "surrogateescape")
        _refuse_mangled(part.field_name, value)
        self.items.append((part.field_name, value))


def _with_file_name(disposition: bytes) -> bytes:
    has_one = re.search(rb";\s*filename\s*=", disposition, re.IGNORECASE)
    return disposition if has_one else disposition + b'; filename=""'


def _extended(charset: bytes, value: bytes) -> str:
    encoding = "latin-1" if charset.lower() == b"iso-8859-1" else "utf-8"
    return unquote_to_bytes(value).decode(encoding, "replace")


def _fields(encoded: bytes) -> list[tuple[str, str]]:
    text = encoded.decode("utf-8", "surrogateescape")
    try:
        return parse_qsl(
            text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FIELDS
        )
    except ValueError as exc:
        raise _malformed(f"There are more than {MAX_FIELDS:,} fields.") from exc


def _refuse_mangled(name: str, value: str) -> None:
    try:
        (name + value).encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{storable(name)[:100]}: it is not in UTF-8.") from exc


def _malformed(detail: str) -> InvalidRequest:
    problem = InvalidRequest(detail)
    problem.status = 400
    return problem


def text_fields(form: FormData) -> dict[str, str]:
    """Return the fields of a form that are not files."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def chosen_files(form: FormData) -> list[UploadFile]:
    """Return the files of the form's `file` fields, without the empty ones that browsers send."""
    files = [f for f in form.getlist(FILE) if isinstance(f, UploadFile)]
    return [file for file in files if file.filename or file.size]


def refuse_unknown_files(form: FormData) -> None:
    """Raise `InvalidRequest` for a file in any field but `file`."""
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name != FILE:
            raise InvalidRequest(f"{name[:100]}: unknown field; send images as `file`.")


def lines_of(form: FormData, name: str) -> list[str]:
    """Return the lines of a text field that are not blank; raises `InvalidRequest`."""
    text = form.get(name)
    lines = [line.strip() for line in text.splitlines()] if isinstance(text, str) else []
    for number, line in enumerate(lines, 1):
        if not is_storable(line):
            raise InvalidRequest(f"Line {number} contains characters that cannot be stored.")
    return [line for line in lines if line]
