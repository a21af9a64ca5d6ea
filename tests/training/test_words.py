"""What the text tower is trained on, and the measures of it: `training/`, short of torch."""

from pathlib import Path

import numpy as np
import pytest

from training.data.photos import read_captions, read_labels
from training.data.wordnet import names_of_classes, read_nouns
from training.data.words import altered, make_tokenizer, phrase, plural
from training.measuring.text_search import ranks

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


def test_a_class_is_called_what_it_is_a_kind_of(names: dict[str, set[int]]) -> None:
    assert names == {"crane": {0, 1}, "wading bird": {0}, "animal": {0}, "tench": {2}}


def test_words_are_known_whatever_their_case_number_and_company() -> None:
    tokenizer = make_tokenizer(["a dog runs", "the dog runs", "one typpo"], ["golden retriever"])

    def read(text: str) -> list[str]:
        return tokenizer.encode(text).tokens

    assert read("The Golden-Retrievers, of a dog!") == ["golden", "retrievers", "dog"]
    assert read("a typpo runs") == ["[UNK]", "runs"]
    assert read("of the") == []


@pytest.mark.parametrize(
    ("one", "many"), [("dog", "dogs"), ("fox", "foxes"), ("baby", "babies"), ("toy", "toys")]
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_a_phrase_has_the_name_in_it() -> None:
    rng = np.random.default_rng(0)
    phrases = {phrase("fox", rng) for _ in range(100)}
    assert all("fox" in said for said in phrases)
    assert {"fox", "foxes", "two foxes"} < phrases


def test_altered_texts_lose_words_and_never_all() -> None:
    rng = np.random.default_rng(0)
    texts = [altered([5, 6, 7, 8], rng) for _ in range(200)]
    assert all(text and set(text) <= {5, 6, 7, 8} for text in texts)
    assert {len(text) for text in texts} >= {3, 4}
    assert altered([5, 6], rng) == [5, 6]


def test_ranks_count_what_is_as_near_as_the_right_picture() -> None:
    texts = np.eye(3, dtype=np.float32)
    pictures = np.array([[1, 0, 0], [1, 0.5, 0], [0, 0.5, 0.2]], np.float32)
    assert ranks(texts, pictures, np.array([0, 1, 2])).tolist() == [2, 2, 1]


def test_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "captions").write_text("file\tsplit\tcaption\na.jpg\ttest\tA cat .\n")
    assert read_captions(tmp_path / "captions") == [("a.jpg", "test", "A cat .")]
    (tmp_path / "labels").write_text("set\tfile\tlabel\nx\ta.jpg\tgala, apple\nx\tb.jpg\tapple\n")
    assert read_labels(tmp_path / "labels") == {"gala": {"a.jpg"}, "apple": {"a.jpg", "b.jpg"}}
    assert (read_captions(None), read_labels(None)) == ([], {})
