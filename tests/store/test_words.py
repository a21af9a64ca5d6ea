import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store.words import LONGEST_WORD, file_name, placed_words, split
from tests.texts import LETTERS, checked, texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A t-shirt, AC/DC", ["a", "t", "shirt", "ac", "dc"]),
        ("IMG_2019-05-06.jpg", ["img", "2019", "05", "06", "jpg"]),
        ("C++ and C#", ["c", "and", "c"]),
        ("me@example.org", ["me", "example", "org"]),
        ("Don’t", ["don", "t"]),
        # One case, no accents, composed or not.
        ("Café Zürich STRASSE straße", ["cafe", "zurich", "strasse", "strasse"]),
        ("Cafe\u0301 Łódź Ørsted İzmir", ["cafe", "lodz", "orsted", "izmir"]),
        ("Ёлка й ΌΣΟΣ أحمد", ["елка", "и", "οσοσ", "احمد"]),
        # The plainest form of a letter or digit.
        ("Ｆｕｌｌ ﬁsh m²", ["full", "fish", "m2"]),
        # Marks that make a letter another one stay, and are not ends of words.
        ("हिन्दी", ["हिन्दी"]),
        ("か\u3099", ["が"]),
        # Scripts without spaces, by characters.
        ("日本語のT", ["日", "本", "語", "の", "t"]),
        ("ﾊﾟﾝ", ["パ", "ン"]),
        ("한국어를", ["한", "국", "어", "를"]),
        ("กิน", ["ก", "\u0e34", "น"]),
        # Symbols, without colour and variant; no punctuation.
        ("I ❤️ NY 👍🏽", ["i", "❤", "ny", "👍"]),
        ("Lego™ 5€", ["lego", "™", "5", "€"]),
        ("co\u00adoperate a\u200bb", ["cooperate", "a", "b"]),
        ("… !? «» \0\ud800 −½", ["1", "2"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split(text) == words


@checked
@given(texts)
def test_words_are_split_the_same_when_asked_one_by_one(text: str) -> None:
    words = split(text)
    assert split(" ".join(words)) == words
    for word in words:
        assert split(word) == [word]
        assert not set(word) & set(" '\\&|!<>()-")


@checked
@given(st.text(st.sampled_from(LETTERS + " -")))
def test_composition_and_case_make_no_difference(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert split(unicodedata.normalize(form, text)) == split(text)
    assert split(text.upper()) == split(text.lower()) == split(text)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.example/a/plain-name.jpg?size=2#top", "plain-name.jpg"),
        ("https://x.example/%E6%97%A5%E6%9C%AC.jpg", "日本.jpg"),
        ("https://x.example/M%FCnchen.jpg", "München.jpg"),
        ("https://x.example/AC%2FDC%20live.jpg", "AC/DC live.jpg"),
        ("https://x.example/100%.jpg", "100%.jpg"),
        ("file:///photos/stra%C3%9Fe.jpg", "straße.jpg"),
        ("https://x.example/", ""),
        ("upload:0123456789abcdef", ""),
    ],
)
def test_the_name_of_a_file(url: str, name: str) -> None:
    assert file_name(url) == name


def test_words_have_the_place_and_weight_of_their_field() -> None:
    words, places = placed_words(
        url="https://x.example/one.jpg", title="I ❤ NY", description="Big", tags=["a b", "c"]
    )
    assert words == ["i", "❤", "ny", "one", "jpg", "a", "b", "c", "big"]
    # A symbol takes no place, and no phrase reaches from one field into the next.
    assert places == ["1A", "1A", "2A", "4C", "5C", "7A", "8A", "10A", "12B"]


def test_what_is_too_much_is_cut() -> None:
    longest = placed_words(url="u", title="T", description="word " * 300_000, tags=["last"])
    assert longest[0][:3] == ["t", "u", "last"]
    assert 10_000 < len(longest[0]) < 16_384
    assert split("x" * 5000) == ["x" * LONGEST_WORD]
