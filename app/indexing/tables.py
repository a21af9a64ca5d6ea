"""Reads tables as written by spreadsheet programs, record by record.

Python's csv has a field size limit that is global to the process, and reads to the end of the file
if a quote is not closed; here a record that is too long, or never ends, affects no other.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.indexing.streams import LONGEST_LINE, Line

# The most lines that a quoted field may span.
MOST_QUOTED_LINES = 10_000

# Up to the closing quote or the end of the line; a doubled quote stands for one.
_QUOTED = re.compile(r'(?:[^"]++|"")*+')
# Excel's own line that declares the delimiter.
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of a record, and the number of its first line.

    If there is a `reason` (a sentence), the fields are those before the unreadable one.
    """

    line: int
    fields: Sequence[str]
    reason: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether all fields are empty."""
        return self.reason is None and not any(field.strip() for field in self.fields)


def records(lines: Iterator[Line], *, delimiters: Sequence[str], column: str) -> Iterator[Record]:
    """Yield the records of a table that are not blank, starting with the header.

    The delimiter is the first one that makes `column` one of the header's fields, or else the first
    of all. A line such as `sep=;` before the header overrides this.
    """
    reader = _Reader(lines)
    first = reader.next_written()
    if first is not None and (said := _SEPARATOR.fullmatch(first.text)) and said[1] not in '"\r\n':
        delimiters = [said[1]]
        first = reader.next_written()
    if first is None:
        return
    reader.put_back([first])
    reader.delimiter = next((d for d in delimiters if _names(first, d, column)), delimiters[0])
    while record := reader.next_record():
        if not record.is_blank:
            yield record


def _names(line: Line, delimiter: str, column: str) -> bool:
    reader = _Reader(iter([line]))
    reader.delimiter = delimiter
    record = reader.next_record()
    return record is not None and column in [name.strip().lower() for name in record.fields]


@dataclass(slots=True)
class _Place:
    """The position in a record: a line, its text without the line end, and the column.

    `length` is the total length of the record's lines so far.
    """

    line: Line
    text: str
    column: int
    length: int


class _Reader:
    """Reads records from lines, with the option to put lines back."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._waiting: deque[Line] = deque()
        self.delimiter = ","

    def put_back(self, lines: Sequence[Line]) -> None:
        self._waiting.extendleft(reversed(lines))

    def next_written(self) -> Line | None:
        """Return the next line that is not blank."""
        while (line := self._next()) and not line.text.strip():
            pass
        return line

    def next_record(self) -> Record | None:
        line = self._next()
        if line is None:
            return None
        text = line.text.rstrip("\r\n")
        if '"' not in text:
            return self._ended(line, text.split(self.delimiter), line)
        return self._quoted(line, text)

    def _next(self) -> Line | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _quoted(self, first: Line, text: str) -> Record:
        """Read a record with quotes, which may therefore span several lines."""
        fields: list[str] = []
        at = _Place(first, text, 0, len(text))
        while True:
            said: str | None = ""
            if at.text.startswith('"', at.column):
                opened, said = at.line, self._in_quotes(at)
                if said is None:
                    return self._open(first, fields, opened)
            end = at.text.find(self.delimiter, at.column)
            fields.append(said + at.text[at.column : end if end >= 0 else None])
            if end < 0:
                return self._ended(first, fields, at.line)
            at.column = end + len(self.delimiter)

    def _in_quotes(self, at: "_Place") -> str | None:
        """Return a quoted value, and advance `at` past it; None if the quote is never closed.

        A stray quote may be the cause, so the lines after the first are then put back, to be read
        as records of their own.
        """
        held: list[str] = []
        following: list[Line] = []
        at.column += 1
        while True:
            end = _quoted_until(at.text, at.column)
            held.append(at.text[at.column : end])
            at.column = end + 1
            if end < len(at.text):
                return "".join(held).replace('""', '"')
            line = None if at.line.is_cut else self._next()
            if line is not None:
                following.append(line)
                at.length += len(line.text)
            if line is None or at.length > LONGEST_LINE or len(following) > MOST_QUOTED_LINES:
                self.put_back(following)
                return None
            at.line, at.text, at.column = line, line.text.rstrip("\r\n"), 0
            held.append("\n")

    def _ended(self, first: Line, fields: Sequence[str], last: Line) -> Record:
        if last.is_cut:
            return Record(first.number, fields[:-1], _too_long(last))
        return Record(first.number, fields)

    def _open(self, first: Line, fields: Sequence[str], opened: Line) -> Record:
        if opened.is_cut and opened.quotes % 2:
            return Record(first.number, fields, _too_long(opened))
        reason = f"The quote that opens in line {opened.number} is never closed."
        return Record(first.number, fields, reason)


def _quoted_until(text: str, start: int) -> int:
    """Return the index of the closing quote, or the end of the text."""
    found = _QUOTED.match(text, start)
    return found.end() if found else len(text)


def _too_long(line: Line) -> str:
    return f"Line {line.number} is longer than {LONGEST_LINE:,} characters."
