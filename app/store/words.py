"""Splits text into words, by the same rule for indexing and for queries.

A word is a run of letters, marks and digits, without accents and case-folded. In scripts without
spaces, each character is a word, and so is each symbol other than punctuation, such as an emoji.
Everything else separates words. Postgres adds English stems (`word_lexeme` in migration 0006).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from urllib.parse import unquote

# The most characters read of a text, and of a title, tag or name, and kept of a word. Together with
# the limits on the words of an image, these keep its tsvector below Postgres' limits: 1 MB, 2 KB
# per word and 16,383 positions.
LONGEST_TEXT = 100_000
LONGEST_NAME = 5_000
LONGEST_WORD = 100
MOST_POSITIONS = 16_000
MOST_BYTES = 500_000

Placed = tuple[list[str], list[str]]
"""Words, and the place of each in a tsvector: position and weight, such as `3A`."""

# Scripts without spaces between words, and Hangul, whose words take suffixes.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff"
    "\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\ua9e0-\ua9ff"
    "\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
# Halfwidth kana and hangul have their marks as separate letters, which must be joined first.
_NARROW = re.compile("[\uff61-\uffdc]+")
# Marks that people omit when typing: accents, vowel points, variation selectors.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u180b-\u180d"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef]"
)
# Letters with strokes and ligatures that Unicode does not decompose.
_STROKES = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ŧ": "t",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
    | {"æ": "ae", "œ": "oe", "þ": "th"}
)
# Mathematical symbols used as punctuation.
_LIKE_PUNCTUATION = frozenset("\N{MINUS SIGN}\N{FRACTION SLASH}\N{DIVISION SLASH}")
_ZERO_WIDTH_SPACE = "\u200b"


class _Spelling(dict[int, str]):
    """A table for `str.translate`: maps each character to folded letters or a space."""

    def __missing__(self, code: int) -> str:
        spelling = _spelling(chr(code))
        # Do not cache higher planes: mostly unassigned, and one text could contain them all.
        if code < 0x2FFFF:
            self[code] = spelling
        return spelling


def split(text: str) -> list[str]:
    """Return the words of a text, in order; none is empty or contains a space."""
    composed = unicodedata.normalize("NFC", text[:LONGEST_TEXT])
    widened = _NARROW.sub(lambda narrow: unicodedata.normalize("NFKC", narrow[0]), composed)
    # With the characters between them removed, letters may combine now.
    spelled = unicodedata.normalize("NFC", widened.translate(_SPELLINGS))
    return [word[:LONGEST_WORD] for word in spelled.split()]


def is_symbol(word: str) -> bool:
    """Return whether a word is a symbol, which is indexed but has no position of its own."""
    return len(word) == 1 and unicodedata.category(word)[0] not in "LMN"


def file_name(url: str) -> str:
    """Return the file name of a URL, percent-decoded; uploads have none."""
    if url.startswith("upload:"):
        return ""
    path = url.partition("#")[0].partition("?")[0]
    return unescaped(path.rpartition("/")[2])


def unescaped(name: str) -> str:
    """Decode percent-escapes as UTF-8, or as Latin-1 if they are not UTF-8."""
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return unquote(name, encoding="latin-1")


def placed_words(*, url: str, title: str, description: str, tags: Sequence[str]) -> Placed:
    """Return the words of an image; the description comes last, in case there are too many.

    The title and the tags have weight A, the description B, the file name C.
    """
    names = [("A", title), ("C", file_name(url)), *(("A", tag) for tag in tags)]
    fields = [*((weight, name[:LONGEST_NAME]) for weight, name in names), ("B", description)]
    words: list[str] = []
    places: list[str] = []
    position = size = 0
    for weight, word in chain.from_iterable(_marked(weight, text) for weight, text in fields):
        size += len(word.encode())
        position += not is_symbol(word)
        if position > MOST_POSITIONS or size > MOST_BYTES:
            break
        # An empty word ends each field, so that no phrase matches across two fields.
        if word:
            words.append(word)
            places.append(f"{max(position, 1)}{weight}")
    return words, places


def _marked(weight: str, text: str) -> Iterable[tuple[str, str]]:
    return ((weight, word) for word in (*split(text), ""))


def _spelling(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "LMN":
        return "".join(map(_spaced, _folded(char)))
    if category == "Cf" and char != _ZERO_WIDTH_SPACE:
        return ""
    if category in {"Sc", "Sm", "So", "Cn", "Co"} and not _is_punctuation(char):
        return f" {char} "
    return " "


def _folded(char: str) -> str:
    """Return a letter, mark or digit case-folded, without accents, in compatibility form."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    folded = _ACCENTS.sub("", plain).translate(_STROKES)
    return unicodedata.normalize("NFC", folded)


def _spaced(char: str) -> str:
    if unicodedata.category(char)[0] not in "LMN":
        return " "
    return f" {char} " if _UNSPACED.match(char) else char


def _is_punctuation(symbol: str) -> bool:
    """Return whether a symbol is ASCII or a variant of an ASCII symbol."""
    plain = unicodedata.normalize("NFKC", symbol)
    return symbol in _LIKE_PUNCTUATION or (plain.isascii() and not plain.isalnum())


_SPELLINGS = _Spelling()
