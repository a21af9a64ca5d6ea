"""Commands of curl, as documentation prints them, sent by httpx."""

import shlex
from pathlib import Path
from typing import Any

import httpx


def run_curl(client: httpx.Client, command: str) -> httpx.Response:
    """Send what a command would to the server of a client; files are those of this folder."""
    program, *words = shlex.split(command)
    assert program == "curl"
    method, url, content, headers = "", "", None, dict[str, str]()
    files: list[tuple[str, Any]] = []
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                content = words.pop(0).encode()
            case "--data-binary":
                content = Path(words.pop(0).removeprefix("@")).read_bytes()
            case "-F":
                name, _, value = words.pop(0).partition("=")
                path = Path(value[1:])
                is_file = value.startswith("@")
                files.append(
                    (name, (path.name, path.read_bytes()) if is_file else (None, value.encode()))
                )
            case "-o":
                words.pop(0)
            case "-L" | "-N" | "-s":
                pass
            case word:
                assert not word.startswith("-"), word
                url = word
    method = method or ("POST" if content is not None or files else "GET")
    path = httpx.URL(url).raw_path.decode()
    return client.request(method, path, content=content, files=files or None, headers=headers)
