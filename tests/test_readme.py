"""The README's program runs as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from app.lookalike import Lookalike
from app.store.images import Entry
from demo.__main__ import sample_photos
from tests.live import Loop

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
# Only against a program that hangs: it imports LlamaIndex, on a machine that may be busy.
TIMEOUT_S = 300

Found = dict[str, list[tuple[str, float]]]


def test_the_llama_index_program_searches_the_index(
    lookalike: Lookalike, loop: Loop, database_url: str, tmp_path: Path
) -> None:
    photos = {name: sample_photos()[name] for name in ("rocket.jpg", "coffee.png", "astronaut.png")}
    urls = {name: path.as_uri() for name, path in photos.items()}
    for url in urls.values():
        assert loop.run(lookalike.indexer.upsert("file", Entry(url))).status == "indexed"
    program = tmp_path / "similar.py"
    program.write_text(_python_block("LlamaIndex"))

    query = str(photos["coffee.png"])
    found = _run(program, "a rocket", query, database_url=database_url)
    assert list(found) == ["a rocket", query]
    for hits in found.values():
        assert sorted(url for url, _ in hits) == sorted(urls.values())
        assert hits == sorted(hits, key=lambda hit: -hit[1])
    assert found["a rocket"][0][0] == urls["rocket.jpg"]
    # Of the image itself: vectors are stored at half precision.
    url, similarity = found[query][0]
    assert url == urls["coffee.png"]
    assert abs(similarity - 1) < 0.002

    assert list(_run(program, database_url=database_url)) == ["a rocket at night"]


def _python_block(heading: str) -> str:
    """Return the only Python block of a section."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def _run(program: Path, *queries: str, database_url: str) -> Found:
    """Run the program; return the (URL, similarity) pairs that it prints for each query."""
    done = subprocess.run(
        [sys.executable, program, *queries],
        env={**os.environ, "DATABASE_URL": database_url, "ENCODER": "builtin"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Found = {}
    lines = re.findall(r"^(.+): (-?\d\.\d{3}) (file:\S+)$", done.stdout, re.MULTILINE)
    for query, similarity, url in lines:
        found.setdefault(query, []).append((url, float(similarity)))
    return found
