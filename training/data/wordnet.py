"""Names for the teacher's classes, and their hypernyms, from WordNet (Fellbaum, 1998).

Reads `data.noun` of WordNet 3.0, as in Debian's package wordnet-base; wndb(5) describes the format.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Hypernyms too general to be searched for.
ABSTRACT = {
    "entity", "physical entity", "abstraction", "object", "whole", "matter", "causal agent",
    "instrumentality", "living thing", "substance", "unit", "attribute", "abstract entity",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Synset:
    """A meaning: the words for it, and the offsets of its hypernyms, what it is a kind of."""

    names: tuple[str, ...]
    hypernyms: tuple[str, ...]


def read_nouns(folder: Path) -> dict[str, Synset]:
    """Return WordNet's noun synsets by their offset in the file."""
    with (folder / "data.noun").open(encoding="ascii") as lines:
        return dict(_noun(line) for line in lines if not line.startswith(" "))


def _noun(line: str) -> tuple[str, Synset]:
    offset, _, _, count, *rest = line.partition(" | ")[0].split()
    words = int(count, 16)
    names = tuple(word.replace("_", " ") for word in rest[: 2 * words : 2])
    pointers = rest[2 * words + 1 :]
    hypernyms = tuple(
        target
        for symbol, target in zip(pointers[::4], pointers[1::4], strict=True)
        if symbol in ("@", "@i")
    )
    return offset, Synset(names, hypernyms)


def names_of_classes(classes: Sequence[str], nouns: dict[str, Synset]) -> dict[str, set[int]]:
    """Return each name, in lower case, with the indices of the classes that it names.

    A class is given as its comma-separated synonyms, which distinguish its synset from others that
    share a name. Hypernyms are names too: "dog" names 118 of ImageNet's classes.
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
        synset = max(sorted(candidates), key=lambda offset: _overlap(own, nouns[offset]))
        for name in _hypernyms(synset, nouns):
            names[name].add(place)
    return {name: places for name, places in names.items() if name not in ABSTRACT}


def _overlap(own: set[str], synset: Synset) -> float:
    names = {name.lower() for name in synset.names}
    return len(own & names) / len(own | names)


def _hypernyms(offset: str, nouns: dict[str, Synset]) -> Iterator[str]:
    """Yield the names of a synset's hypernyms, all the way up."""
    for hypernym in nouns[offset].hypernyms:
        yield from (name.lower() for name in nouns[hypernym].names)
        yield from _hypernyms(hypernym, nouns)
