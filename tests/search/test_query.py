import re
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given

from app.problems import InvalidRequest, QueryCancels
from app.search.query import (
    LONGEST_WORDS,
    Marked,
    Query,
    Term,
    combine,
    read_terms,
    rocchio,
    written_terms,
)
from app.store.word_query import query_tokens
from tests.texts import checked, texts

ID = UUID("7f2c9a51-5d0e-4b8e-9a53-0d8e3c1f6b11")


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("golden retriever", [Term(text="golden retriever")]),
        ("  ", []),
        (
            "2:golden retriever + https://example.com/pool.jpg - fruit",
            [
                Term(text="golden retriever", weight=2),
                Term(url="https://example.com/pool.jpg"),
                Term(text="fruit", weight=-1),
            ],
        ),
        ("- 0.5:night", [Term(text="night", weight=-0.5)]),
        (f".5:{ID} + day", [Term(image=ID, weight=0.5), Term(text="day")]),
        # Only a sign between spaces is an operator, only a number before a term is a weight.
        ("black-and-white C++ 16x9", [Term(text="black-and-white C++ 16x9")]),
        (
            '"2:1 + 3" - "a - b"',
            [Term(text="2:1 + 3", quoted=True), Term(text="a - b", weight=-1, quoted=True)],
        ),
        # Times, titles and hashes are texts.
        ("0:30 + 2001: A Space Odyssey", [Term(text="0:30"), Term(text="2001: A Space Odyssey")]),
        (f"{'9' * 400}:x", [Term(text=f"{'9' * 400}:x")]),
        (ID.hex, [Term(text=ID.hex)]),
        ('a "red bicycle" + rain', [Term(text='a "red bicycle"'), Term(text="rain")]),
        ("ends with - ", [Term(text="ends with -")]),
        ('an open " quote', [Term(text='an open " quote')]),
        ("雪の中の犬 - 猫", [Term(text="雪の中の犬"), Term(text="猫", weight=-1)]),
    ],
)
def test_an_expression_is_parsed_into_terms(expression: str, terms: list[Term]) -> None:
    assert read_terms(expression) == terms


@pytest.mark.parametrize(
    "expression",
    [
        "golden retriever",
        "2:golden retriever + https://example.com/pool.jpg - fruit",
        f"- 0.5:night + 3:{ID}",
        '"2:1 + 3" - 2:"a - b"',
        "1:2:1 + 0:30 - 4:0:30",
        'an open " quote + b',
    ],
)
def test_terms_are_written_as_they_are_read(expression: str) -> None:
    terms = read_terms(expression)
    assert read_terms(written_terms(terms)) == terms
    assert read_terms(written_terms(terms[1:])) == terms[1:]


@pytest.mark.parametrize("expression", ["a + + b", "a - - b", " + ".join("ab" * 40)])
def test_malformed_expressions_are_refused(expression: str) -> None:
    with pytest.raises(InvalidRequest):
        read_terms(expression)


def test_words_include_added_texts_and_exclude_subtracted_ones() -> None:
    query = Query([Term(text="red boat"), Term(text='"old" sails', weight=-1), Term(image=ID)])
    assert query.words == 'red boat -"old  sails"'
    assert Query([Term(text="a -b", quoted=True), Term(text="c")]).words == '"a -b" c'
    # A quote that is not closed does not reach into the next text.
    open_quote = Query([Term(text='6" pipe'), Term(text='"x" y'), Term(text="z", weight=-1)])
    assert query_tokens(open_quote.words) == query_tokens('6 pipe "x" y -z')
    assert Query([Term(text="boat", weight=-1)]).words == ""


@checked
@given(texts)
def test_the_words_of_a_title_are_searched_as_it_is_typed(title: str) -> None:
    quoted = title.replace('"', " ").strip()
    assert Query(read_terms(f'"{quoted}"')).words == f'"{quoted}"'
    signs = any(part[0] in "+-" for part in title.split())
    if not signs and not re.match(r"[\d.]+:|http|\s*$", title.strip()):
        assert query_tokens(Query(read_terms(title)).words) == query_tokens(title)


def test_long_texts_share_a_query_by_words() -> None:
    texts = [Term(text=f"w{n} " + "日本語" * 3000, weight=1 if n % 2 else -1) for n in range(50)]
    words = Query(texts).words
    assert len(words) < 1.1 * LONGEST_WORDS
    assert all(f"w{n} " in words for n in range(50))


def unit(*values: float) -> Any:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def test_combine_is_a_weighted_sum_of_unit_length() -> None:
    a, b = unit(1, 0, 0), unit(0, 1, 0)
    assert combine([a, b], [2, -1]) == pytest.approx(unit(2, -1, 0))
    with pytest.raises(QueryCancels):
        combine([a, a], [1, -1])


def test_rocchio_uses_the_weights_of_the_textbook() -> None:
    query, wanted, unwanted = unit(1, 0, 0), [unit(0, 1, 0), unit(0, 1, 1)], [unit(0, 0, 1)]
    mean = np.mean(wanted, axis=0)
    expected = 1.0 * query + 0.75 * mean - 0.15 * unwanted[0]
    moved = rocchio(query, Marked(wanted, unwanted))
    assert moved == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    # Marked images alone are a query too.
    assert rocchio(None, Marked(wanted)) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
