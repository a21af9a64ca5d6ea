"""Parses word queries: required words and phrases, alternatives and exclusions.

Every word is required, in any order. `"…"` is a phrase, and so are words joined by anything but a
space (`2019-05-06`); `-` before a word or phrase excludes it; `or` separates alternatives.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from app.store.words import is_symbol, split, unescaped

# The most words searched for, and the most excluded; further ones are ignored. Postgres handles
# thousands, slowly, until it runs out of stack.
MOST_WORDS = 64
# The most characters read of a query.
LONGEST_QUERY = 20_000

# Words so common that they only count in phrases, or if a query has no others.
_STOP_WORDS = """
a about above after again against all am an and any are as at be because been before being below
between both but by can could d did do does doing don down during each few for from further had has
have having he her here hers herself him himself his how i if in into is it its itself just ll m me
more most my myself no nor not now of off on once only or other our ours ourselves out over own re s
same she should so some such t than that the their theirs them themselves then there these they this
those through to too under until up ve very was we were what when where which while who whom why
will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Parts of a query are separated by spaces, quotes, brackets, commas and sentence-ending marks.
_BETWEEN = (
    r"\s\"'`,;!?()\[\]{}<>|\u00ab\u00bb\u2018-\u201f\u2026\u2039\u203a"
    r"\u3001-\u3003\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1b\uff1f"
)
# A minus is an operator only after a space and before something other than another minus.
_PART = re.compile(
    r"((?<!\S)(?P<minus>-)(?=[^\s-]))?"
    rf'("(?P<phrase>[^"]*)"|["\u201c(]?(?P<joined>[^{_BETWEEN}]+))'
)

Spellings = list[list[str]]
"""Alternative phrases, as lists of words; one of them has to match."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a query; `is_weak` if it is only required when there is no other."""

    spellings: Spellings
    excluded: bool
    is_or: bool = False
    is_weak: bool = False


def query_tokens(query: str) -> list[str]:
    """Return a query as words and operators of a tsquery, in order; empty if it has no words.

    It is also empty if the query only excludes words.
    """
    parts = list(_parts(unicodedata.normalize("NFC", query[:LONGEST_QUERY])))
    wanted = _limited(part for part in parts if not part.excluded)
    unwanted = _limited(part for part in parts if part.excluded)
    alternatives = [_required(group) for group in _alternatives(wanted) if group]
    # The word `or` by itself is not an operator.
    alternatives = alternatives or [wanted[:1]]
    if not alternatives[0]:
        return []
    tokens = _between("|", [_between("&", map(_tokens, group)) for group in alternatives])
    return [*tokens, *chain.from_iterable(["&", "!", *_tokens(part)] for part in unwanted)]


def _parts(query: str) -> Iterator[_Part]:
    for found in _PART.finditer(query):
        phrase, joined = found["phrase"], found["joined"] or ""
        written = joined if phrase is None else phrase
        words = split(written)
        if not words:
            continue
        spellings = [words]
        # A file name may be given as written in its URL, where `%20` is a space.
        if "%" in written and (decoded := split(unescaped(written))) and decoded != words:
            spellings.append(decoded)
        yield _Part(
            spellings,
            excluded=found["minus"] is not None,
            is_or=joined.lower() == "or",
            is_weak=phrase is None and STOP_WORDS.issuperset(words),
        )


def _limited(parts: Iterable[_Part]) -> list[_Part]:
    """Return the parts cut to the first MOST_WORDS words."""
    kept: list[_Part] = []
    left = MOST_WORDS
    for part in parts:
        if left <= 0:
            break
        spellings = [words[:left] for words in part.spellings]
        left -= 0 if part.is_or else sum(map(len, spellings))
        kept.append(replace(part, spellings=spellings))
    return kept


def _alternatives(parts: Iterable[_Part]) -> list[list[_Part]]:
    groups: list[list[_Part]] = [[]]
    for part in parts:
        if part.is_or:
            groups.append([])
        else:
            groups[-1].append(part)
    return groups


def _required(parts: Sequence[_Part]) -> Sequence[_Part]:
    """Return the parts that must all match, without duplicates."""
    strong = [part for part in parts if not part.is_weak] or parts
    return list({str(part.spellings): part for part in strong}.values())


def _tokens(part: _Part) -> list[str]:
    return _between("|", map(_phrase, part.spellings))


def _phrase(words: Sequence[str]) -> list[str]:
    """Return a query for adjacent words, along with their symbols anywhere in the text."""
    symbols = [[word] for word in words if is_symbol(word)]
    row = [[word] for word in words if not is_symbol(word)]
    return _between("&", [_between("<->", row), *symbols] if row else symbols)


def _between(operator: str, operands: Iterable[Sequence[str]]) -> list[str]:
    """Join operands with an operator, in parentheses if there are several."""
    operands = list(operands)
    if len(operands) == 1:
        return list(operands[0])
    first, *others = operands
    joined = chain(first, *([operator, *operand] for operand in others))
    return ["(", *joined, ")"]
