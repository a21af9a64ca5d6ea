"""The programs of docs/client.md run as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png

PAGE = (Path(__file__).parent.parent.parent / "docs" / "client.md").read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(program: str, server: Server) -> str:
    local = re.sub(r"Client\(\)", f'Client("{server.address}")', program)
    assert local != program
    done = subprocess.run(
        [sys.executable, "-c", local], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_programs(server: Server, host: ImageHost) -> None:
    urls = [host.url("seed/1.png"), host.url("seed/2.png"), host.url("status/404")]
    lines = ["url,title,tags", *(f"{url},A title,boat" for url in urls)]
    Path("products.csv").write_text("\n".join(lines))
    Path("photo.jpg").write_bytes(altered(png(1)))
    Path("cat.jpg").write_bytes(png(1))
    Path("dog.jpg").write_bytes(png(3))
    Path("notes.txt").write_text("no image")
    # That of people is run with a server that keeps them: tests/faces/test_people_client.py
    upsert, search, upload, _, at_once = PROGRAMS

    said = run(upsert, server)
    assert "2 indexed, 1 failed" in said
    assert f"{urls[2]}: " in said

    said = run(search, server)
    assert "copy 0.9" in said
    assert said.count("A title") == 2

    said = run(upload, server)
    assert said.count("indexed ") == 2
    assert "415 not-a-picture" in said

    assert len(re.findall(r"^(?:cat|dog)\.jpg \['http", run(at_once, server), re.MULTILINE)) == 2
