"""Photos from folders and tar files, and which of them training may see."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.samples import encode, photo
from training.data.photos import is_held_out, load_photos
from training.data.tables import files_in_test_split, read_captions
from training.measuring.copies import read_photos


def test_one_in_twenty_photos_is_held_out_by_its_name() -> None:
    held_out = [is_held_out(f"{number}.jpg") for number in range(4000)]
    assert 0.03 < np.mean(held_out) < 0.07
    assert is_held_out("5.jpg") == is_held_out("5.jpg")


def test_photos_of_the_captions_test_split_are_measured_on_and_not_trained_on(
    tmp_path: Path,
) -> None:
    trained_on = [name for name in (f"{n}.png" for n in range(40)) if not is_held_out(name)][:4]
    for seed, name in enumerate(trained_on):
        (tmp_path / name).write_bytes(encode(photo(seed, (40, 40))))
    captions = tmp_path / "captions.tsv"
    splits = zip(trained_on, ["train", "dev", "test"], strict=False)
    rows = [f"{name}\t{split}\tA dog .\n" for name, split in splits]
    captions.write_text("file\tsplit\tcaption\n" + "".join(rows))

    test_split = files_in_test_split(read_captions(captions))
    names, _ = load_photos([tmp_path], without=test_split)
    assert names == sorted([trained_on[0], trained_on[1], trained_on[3]])
    [held_out] = read_photos([tmp_path], only_held_out=True, captions=captions, count=1)
    assert encode(held_out) == encode(Image.open(tmp_path / trained_on[2]).convert("RGB"))
