"""Names for the teacher's classes, from WordNet."""

from pathlib import Path

import pytest

from training.data.wordnet import names_of_classes, read_nouns

# Three meanings, as wndb(5) writes them: a bird, a machine, and an animal that the bird is.
NOUNS = """  1 This software and database is not ours; this file is.
00000001 05 n 01 animal 0 000 | a living thing
00000002 05 n 02 crane 0 wading_bird 0 001 @ 00000001 n 0000 | a bird
00000003 06 n 01 crane 1 000 | a machine
"""


@pytest.fixture
def names(tmp_path: Path) -> dict[str, set[int]]:
    (tmp_path / "data.noun").write_text(NOUNS)
    return names_of_classes(["crane, wading bird", "crane", "tench"], read_nouns(tmp_path))


def test_a_class_is_also_named_by_what_it_is_a_kind_of(names: dict[str, set[int]]) -> None:
    assert names == {"crane": {0, 1}, "wading bird": {0}, "animal": {0}, "tench": {2}}
