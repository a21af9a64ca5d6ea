"""The README's program runs as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from app.lookalike import Lookalike
from app.store.catalog import Entry
from demo.__main__ import sample_photos
from tests.live import Loop

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
PHOTOS = ("rocket.jpg", "coffee.png", "astronaut.png")
# For a program that imports LlamaIndex on a machine that does much else.
TIMEOUT_S = 300


def python_block(heading: str) -> str:
    """Return the only Python block of a section."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def test_the_llama_index_program_searches_the_index(
    lookalike: Lookalike, loop: Loop, database_url: str, tmp_path: Path
) -> None:
    paths = {name: sample_photos()[name] for name in PHOTOS}
    for path in paths.values():
        outcome = loop.run(lookalike.indexer.upsert("file", Entry(path.as_uri())))
        assert outcome.status == "indexed"
    program = tmp_path / "similar.py"
    program.write_text(python_block("LlamaIndex"))

    def found_by(*queries: str) -> dict[str, list[tuple[str, float]]]:
        done = subprocess.run(
            [sys.executable, program, *queries],
            env={**os.environ, "DATABASE_URL": database_url, "ENCODER": "builtin"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, list[tuple[str, float]]] = {}
        for query, similarity, url in re.findall(
            r"^(.+): (-?\d\.\d{3}) (file:\S+)$", done.stdout, re.MULTILINE
        ):
            found.setdefault(query, []).append((url, float(similarity)))
        return found

    everything = sorted(path.as_uri() for path in paths.values())
    query = str(paths["coffee.png"])
    found = found_by("a rocket", query)
    assert list(found) == ["a rocket", query]
    for hits in found.values():
        similarities = [similarity for _, similarity in hits]
        assert similarities == sorted(similarities, reverse=True)
        assert sorted(url for url, _ in hits) == everything
    assert found["a rocket"][0][0] == paths["rocket.jpg"].as_uri()
    # Vectors are kept at half precision, so that of an image itself is nearly 1.
    assert found[query][0][0] == paths["coffee.png"].as_uri()
    assert abs(found[query][0][1] - 1) < 0.002
    assert list(found_by()) == ["a rocket at night"]
