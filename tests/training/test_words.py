"""The tokenizer's words, and how phrases are varied for training."""

import numpy as np
import pytest

from training.data.words import make_tokenizer, phrase, plural


def test_words_are_known_in_any_case_number_and_punctuation() -> None:
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


def test_a_phrase_contains_the_name() -> None:
    rng = np.random.default_rng(0)
    phrases = {phrase("fox", rng) for _ in range(100)}
    assert all("fox" in text for text in phrases)
    assert {"fox", "foxes", "two foxes"} < phrases
