"""Tables that come with the photos: captions, labels, and the teacher's classes."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# The split of the captions whose photos are never trained on.
TEST_SPLIT = "test"


class Caption(NamedTuple):
    """A line of a captions file."""

    file: str
    split: str
    text: str


def read_captions(path: Path | None) -> list[Caption]:
    """Return the captions of a tab-separated file with the columns file, split and caption."""
    if path is None:
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Caption(row["file"], row["split"], row["caption"]) for row in rows]


def files_in_test_split(captions: Sequence[Caption]) -> set[str]:
    """Return the names of the photos that the captions reserve for testing."""
    return {caption.file for caption in captions if caption.split == TEST_SPLIT}


def read_classes(path: Path) -> list[str]:
    """Return the comma-separated synonyms of each of the teacher's classes.

    The file's first line is the background class, which the teacher here does not have.
    """
    return path.read_text("utf-8").splitlines()[1:]


def read_labels(path: Path | None) -> dict[str, set[str]]:
    """Return the files that have each label; a line may hold several, separated by commas."""
    labels: dict[str, set[str]] = defaultdict(set)
    if path is not None:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                for label in row["label"].split(","):
                    labels[label.strip()].add(row["file"])
    return dict(labels)
