import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.lookalike import Lookalike
from app.store.filters import NO_FILTERS
from app.store.images import Entry, NewImage
from app.store.vectors import NewVector
from app.store.word_query import MOST_WORDS, query_tokens
from app.store.words import split
from tests.live import Loop
from tests.samples import facts
from tests.texts import checked, texts


@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        ("boat", "boat"),
        ("Red Boat", "( red & boat )"),
        ('"red boat"', "( red <-> boat )"),
        ("t-shirt", "( t <-> shirt )"),
        ("boat,sea", "( boat & sea )"),
        ("boat -sea", "boat & ! sea"),
        ('boat -"old sails" -AC/DC', "boat & ! ( old <-> sails ) & ! ( ac <-> dc )"),
        # What is excluded is excluded from every alternative.
        ("red cat or dog -fruit", "( ( red & cat ) | dog ) & ! fruit"),
        ("or", "or"),
        ("or cat or", "cat"),
        ("cat or -dog", "cat & ! dog"),
        # Stop words are looked for where nothing else is.
        ("a boat in the harbour", "( boat & harbour )"),
        ("The Who", "( the & who )"),
        ('"the who" live', "( ( the <-> who ) & live )"),
        ("dog's bowl", "( dog & bowl )"),
        # No operators.
        ("--help x- - y", "( help & x & y )"),
        ('6" pipe', "( 6 & pipe )"),
        ('-"red boat', "boat & ! red"),
        ("日本語", "( 日 <-> 本 <-> 語 )"),
        ("I❤NY", "( ( i <-> ny ) & ❤ )"),
        ("❤ ☂", "( ❤ & ☂ )"),
        ("a%20b.jpg", "( ( a <-> 20b <-> jpg ) | ( a <-> b <-> jpg ) )"),
        # Nothing to be found.
        ("-boat", ""),
        ("... !!! & | ( ) : * \\ '", ""),
        ("", ""),
    ],
)
def test_a_query_is_read(query: str, tokens: str) -> None:
    assert " ".join(query_tokens(query)) == tokens


def test_a_query_is_cut_and_what_it_excludes_is_kept() -> None:
    many = " ".join(f"w{number}" for number in range(1000))
    for query in (many, f'"{many}"', many.replace(" ", "-"), many.replace(" ", " or ")):
        tokens = query_tokens(f'{query[:15_000]} -fruit -"old sails"')
        wanted = [token for token in tokens if token.startswith("w")]
        assert wanted == [f"w{number}" for number in range(MOST_WORDS)]
        assert " ".join(tokens).endswith("& ! fruit & ! ( old <-> sails )")


@dataclass(frozen=True)
class Words:
    """Stores images that consist of their words, and searches them."""

    lookalike: Lookalike
    loop: Loop

    def store(self, *entries: Entry) -> None:
        vector = np.zeros(self.lookalike.encoder.dimensions, np.float32)
        vector[0] = 1
        whole = [entry.over(None) for entry in {entry.id: entry for entry in entries}.values()]
        picture = facts()

        async def write() -> None:
            async with self.lookalike.database.begin() as connection:
                images = [NewImage(entry, picture) for entry in whole]
                await self.lookalike.catalog.upsert(connection, images)
                rows = [NewVector(entry, picture, picture.sha256, vector) for entry in whole]
                await self.lookalike.vectors.upsert(connection, rows)

        self.loop.run(write())

    def found(self, *queries: str) -> list[set[UUID]]:
        """Return the images that each query finds."""

        async def search() -> list[set[UUID]]:
            worded = self.lookalike.vectors.worded
            return [set(await worded(q, limit=10_000, filters=NO_FILTERS)) for q in queries]

        return self.loop.run(search())


@pytest.fixture
def words(lookalike: Lookalike, loop: Loop) -> Words:
    return Words(lookalike, loop)


def typed(text: str) -> list[str]:
    """Return a text as it is typed: in quotes, and, unless a part excludes, as it is."""
    quoted = f'"{text.replace(chr(34), " ")}"'
    excludes = any(part.startswith("-") for part in text.split())
    return [quoted] if excludes else [quoted, text]


images = st.tuples(texts, st.lists(texts, max_size=2), texts).filter(lambda image: split(image[2]))


@settings(checked, max_examples=6, phases=[Phase.generate])
@given(st.lists(images, min_size=6, max_size=10))
def test_every_title_tag_and_file_name_finds_its_image(
    words: Words, described: list[tuple[str, list[str], str]]
) -> None:
    asked: dict[str, list[Entry]] = {}
    entries: list[Entry] = []
    for title, tags, name in described:
        entry = Entry(f"https://x.example/{quote(name, safe='')}", title=title, tags=tags)
        entries.append(entry)
        queries = typed(quote(name, safe=""))
        for text in filter(split, (title, *tags, name)):
            parts = [part for part in text.split() if split(part) and not part.startswith("-")]
            queries += [*typed(text), *parts, *split(text)]
        for query in queries:
            asked.setdefault(query, []).append(entry)
    words.store(*entries)
    stored = {entry.id: entry for entry in entries}
    for (query, expected), found in zip(asked.items(), words.found(*asked), strict=True):
        for entry in expected:
            # Of two images with one URL, the second is stored.
            assert stored[entry.id] is not entry or entry.id in found, (query, entry)


@settings(checked, max_examples=6, phases=[Phase.generate])
@given(st.lists(texts.filter(split), min_size=6, max_size=10, unique=True))
def test_excluded_words_exclude(words: Words, titles: list[str]) -> None:
    entries = [Entry(f"https://x.example/{n}.png", title=t) for n, t in enumerate(titles)]
    words.store(*entries)
    asked = [
        (entry, f"png -{excluded}")
        for entry in entries
        for excluded in [*split(entry.title or ""), typed(entry.title or "")[0]]
    ]
    for (entry, query), found in zip(asked, words.found(*(q for _, q in asked)), strict=True):
        assert entry.id not in found, (query, entry)


def only(words: Words, queries: Sequence[str]) -> list[bool]:
    return [len(found) == 1 for found in words.found(*queries)]


@pytest.mark.parametrize(
    ("title", "found", "missed"),
    [
        ("A dog barks", ["dogs", "barking dog", '"dogs barked"'], ["-dogs barks", '"dog a"']),
        ("to be or not to be", ["to be or not to be", '"not to be"', "be"], ['"be not"']),
        ("The Who", ["the who", "THE", "who is the or who"], ['"who the"']),
        ("Café Zürich", ["cafe zurich", unicodedata.normalize("NFD", "zürich")], ["zuric"]),
        ("日本語の本", ["本語", "語", "日本 の本"], ["語本", "英語"]),
        ("ประเทศไทย", ["ไทย", "เทศ"], ["ยไท"]),
        ("한국어를 배워요", ["한국어", "국어"], ["어국"]),
        ("Lego™ City", ['"lego city"', "lego™", "™"], ["™®"]),
        ("🇩🇪 C++ 👩‍👧", ["🇩🇪", "c++", "👩", "C"], ["🇫🇷", "👍"]),
        ("_-.,!?", [], ["_-.,!?", "-", '"!"', "!?", "'", "\\", "&", "|", "<->", ":*"]),
    ],
)
def test_what_is_found_by_a_title(
    words: Words, title: str, found: list[str], missed: list[str]
) -> None:
    words.store(Entry("https://x.example/", title=title))
    assert only(words, found) == [True] * len(found)
    assert not any(words.found(*missed))


def test_a_phrase_does_not_reach_into_another_field(words: Words) -> None:
    words.store(Entry("https://x.example/three.jpg", "one", "four", ["two", "new york"]))
    assert only(words, ["one two", '"new york"', "three four"]) == [True, True, True]
    assert not any(words.found('"one two"', '"two new"', '"jpg two"', '"york four"'))


MUCH: list[Any] = [
    "word " * 250_000,
    "x" * 1_200_000,
    " ".join(f"{number:x}" * 20 for number in range(60_000)),
    "日本語" * 400_000,
    "❤" * 400_000,
    "".join(map(chr, range(0x3400, 0x9FFF))) * 5,
]


@pytest.mark.parametrize("much", MUCH, ids=range(len(MUCH)))
def test_a_text_of_any_length_is_stored_and_asked(words: Words, much: str) -> None:
    words.store(Entry("https://x.example/name.jpg", "The title", much, ["tag"]))
    words.store(Entry("https://x.example/other.jpg", much, "", [much]))
    found = words.found(
        "title tag name.jpg", " ".join(split(much)[:3]), much, f'"{much}"', f"the or {much}"
    )
    assert all(found)
    words.loop.run(
        describe(words.lookalike, Entry("https://x.example/name.jpg", much, much, [much]))
    )
    assert [len(found) for found in words.found("title", "name")] == [0, 1]


async def describe(lookalike: Lookalike, entry: Entry) -> None:
    async with lookalike.database.begin() as connection:
        await lookalike.catalog.describe(connection, entry.over(None))
