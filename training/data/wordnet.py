"""The classes' names and what they are kinds of, from WordNet (Fellbaum, 1998).

Reads `data.noun` of WordNet 3.0, as Debian's package wordnet-base has it; wndb(5) tells its format.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Above these, WordNet speaks of things in general.
ABSTRACT = {
    "entity", "physical entity", "abstraction", "object", "whole", "matter", "causal agent",
    "instrumentality", "living thing", "substance", "unit", "attribute", "abstract entity",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Synset:
    """A meaning: the words for it, and the meanings that it is a kind of."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]


def read_nouns(folder: Path) -> dict[str, Synset]:
    """Return WordNet's nouns by their offset in the file."""
    with (folder / "data.noun").open(encoding="ascii") as lines:
        return dict(_noun(line) for line in lines if not line.startswith(" "))


def _noun(line: str) -> tuple[str, Synset]:
    offset, _, _, count, *rest = line.partition(" | ")[0].split()
    words = int(count, 16)
    names = tuple(word.replace("_", " ") for word in rest[: 2 * words : 2])
    pointers = rest[2 * words + 1 :]
    kinds = tuple(
        target
        for symbol, target in zip(pointers[::4], pointers[1::4], strict=True)
        if symbol in ("@", "@i")
    )
    return offset, Synset(names, kinds)


def names_of_classes(classes: Sequence[str], nouns: dict[str, Synset]) -> dict[str, set[int]]:
    """Return every name, in lower case, with the classes that it is a name for.

    A class is given by its synonyms, separated by commas, which tell its synset from others of one
    name. What it is a kind of has names too: "dog" is one for 118 of ImageNet's classes.
    """
    by_name: dict[str, set[str]] = defaultdict(set)
    for offset, synset in nouns.items():
        for name in synset.names:
            by_name[name.lower()].add(offset)
    names: dict[str, set[int]] = defaultdict(set)
    for place, synonyms in enumerate(classes):
        own = {name.strip().lower() for name in synonyms.split(",")}
        for name in own:
            names[name].add(place)
        candidates = {offset for name in own for offset in by_name[name]}
        if not candidates:
            continue
        synset = max(sorted(candidates), key=lambda offset: _agreement(own, nouns[offset]))
        for name in _kinds(synset, nouns):
            names[name].add(place)
    return {name: places for name, places in names.items() if name not in ABSTRACT}


def _agreement(own: set[str], synset: Synset) -> float:
    names = {name.lower() for name in synset.names}
    return len(own & names) / len(own | names)


def _kinds(offset: str, nouns: dict[str, Synset]) -> Iterator[str]:
    """Yield the names of what a synset is a kind of, all the way up."""
    for kind in nouns[offset].kinds:
        yield from (name.lower() for name in nouns[kind].names)
        yield from _kinds(kind, nouns)
