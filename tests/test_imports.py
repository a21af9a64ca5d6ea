"""Nothing heavy is imported before it is needed, by what is in `sys.modules` and not by a clock."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import png

# Each takes a good part of a command's time.
LLAMAINDEX = {"llama_index", "openai", "nltk"}
RARE = {*LLAMAINDEX, "alembic", "cv2", "pyarrow", "huggingface_hub", "onnx", "torch"}
RARE |= {"limits", "redis", "aiohttp", "httpx"}
RICH = {"rich"}
WEB = {"starlette", "uvicorn", "jinja2"}
NETWORK = {"procrastinate", "fsspec"}
EVERYTHING = {*RARE, *RICH, *WEB, *NETWORK, "numpy", "sqlalchemy", "pydantic", "PIL", "onnxruntime"}

PROGRAM = """
import json, sys
try:
    {code}
finally:
    print(json.dumps(sorted(sys.modules)), file=open({out!r}, "w"))
"""
ID = "00000000-0000-0000-0000-000000000000"
RUN = "sys.argv = ['lookalike', *{arguments!r}]; from app.cli.main import main; main()"


def imported(code: str, **environment: str) -> set[str]:
    """The modules that a fresh interpreter has after running the code."""
    program = PROGRAM.format(code=code, out="modules.json")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    # 3: the index is empty, so that the search finds nothing.
    assert done.returncode in (0, 3), done.stderr
    return set(json.loads(Path("modules.json").read_text("utf-8")))


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (RUN.format(arguments=["--help"]), EVERYTHING),
        (RUN.format(arguments=["index", "--help"]), EVERYTHING),
        ("import app.store.index", {*RARE, *RICH, *WEB, *NETWORK}),
        ("import app.lookalike", {*RARE, *WEB}),
        ("import app.web.server", RARE),
        ("import app.search.verification, app.pictures.tiles", RARE),
    ],
)
def test_an_import_brings_nothing_that_is_not_needed(code: str, unwanted: set[str]) -> None:
    assert not imported(code) & unwanted


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["stats"], {*RARE, *RICH, *WEB, *NETWORK}),
        (["model", "info"], {*RARE, *RICH, *WEB, *NETWORK}),
        # Thumbnails are reduced by OpenCV.
        (["index", "--json", "photo.png"], {*RARE, *WEB} - {"cv2"}),
        # A running server would be asked by the client.
        (["search", "photo.png + a red cat", "--like", ID], {*RARE, *WEB} - {"httpx"}),
    ],
)
def test_a_command_that_has_run_has_imported_nothing_that_it_did_not_need(
    database_url: str, arguments: list[str], unwanted: set[str]
) -> None:
    Path("photo.png").write_bytes(png(1))
    found = imported(RUN.format(arguments=arguments), DATABASE_URL=database_url, ENCODER="builtin")
    assert not found & unwanted
    assert "onnxruntime.quantization" not in found


def test_export_without_pyarrow_is_one_line(database_url: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['pyarrow'] = None; "
            + RUN.format(arguments=["export", "index.parquet"]),
        ],
        env={**os.environ, "DATABASE_URL": database_url, "ENCODER": "builtin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "pip install 'lookalike[parquet]'" in line
