"""`lookalike compare`: what it prints of two images, however they are named."""

import json
from pathlib import Path

from PIL import Image, ImageOps

from tests.cli.test_main import Run, run
from tests.image_host import ImageHost
from tests.samples import encode, photo

__all__ = ["run"]
SIZE = (480, 360)


def written(folder: Path, name: str, image: Image.Image) -> str:
    path = folder / name
    path.write_bytes(encode(image))
    return str(path)


def test_two_files_are_compared_in_words(run: Run, tmp_path: Path) -> None:
    image = photo(3, SIZE)
    crop = ImageOps.mirror(image.crop((100, 50, 400, 290))).resize((150, 120))
    done = run("compare", written(tmp_path, "a.png", crop), written(tmp_path, "b.png", image))
    first, *facts = done.stdout.splitlines()
    assert done.returncode == 0
    assert first.split()[1:] == ["copy", "The", "same", "image,", "altered."]
    assert facts[:4] == [
        "overlap: all of the first, 42% of the second",
        "mirrored: left to right",
        "rotation: none",
        "scale: 2 times larger in the second",
    ]
    assert facts[4] == "differences: none"


def test_an_indexed_image_and_a_url_are_compared_as_json(
    run: Run, tmp_path: Path, host: ImageHost
) -> None:
    image = photo(3, SIZE)
    path = written(tmp_path, "b.png", image)
    indexed = json.loads(run("index", path, "--json").stdout)
    url = host.add("a.png", encode(image.rotate(180)))
    found = json.loads(run("compare", url, indexed["id"], "--json").stdout)
    assert found["match"] == "copy"
    assert abs(abs(found["alignment"]["rotation"]) - 180) < 1
    assert found["b"]["width"] == SIZE[0]
    exact = run("compare", path, indexed["id"])
    assert exact.stdout.split()[:5] == ["1.000", "exact", "The", "same", "file."]


def test_strangers_end_with_a_code_of_their_own(run: Run, tmp_path: Path) -> None:
    files = [written(tmp_path, f"{seed}.png", photo(seed, SIZE)) for seed in (5, 6)]
    done = run("compare", *files)
    assert done.returncode == 3
    assert "similar  Nothing proves that they are the same image." in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_what_names_no_image_is_a_wrong_usage(run: Run, tmp_path: Path) -> None:
    image = written(tmp_path, "a.png", photo(5, SIZE))
    for named in ("missing.png", "a boat", str(tmp_path), "", "a.png + b.png"):
        done = run("compare", image, named)
        assert done.returncode == 2
        assert f"{named} is not a file, a URL or the id of an indexed image." in done.stderr
    assert run("compare", image).returncode == 2
