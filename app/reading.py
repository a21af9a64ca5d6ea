"""What a model makes of a text, short of embedding it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a text counts.

    `is_cut`: it is longer than the model reads, so that its end does not count. `unknown_words`:
    what the model has never seen, which does not count either. `is_empty`: nothing is left.
    """

    is_cut: bool = False
    unknown_words: tuple[str, ...] = ()
    is_empty: bool = False
