"""Words: the tokenizer and its vocabulary, and how phrases are varied for training."""

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1
# They describe nothing visible, so the tokenizer drops them and never calls them unknown.
FUNCTION_WORDS = (
    "a|an|the|this|that|these|those|some|any|its|his|her|their|our|my|it|is|are|was|were|be|been|"
    "being|has|have|had|of|to|for|at|by|as|there|which|who|while|s|t|photos?|pictures?|images?"
)
# A word used less often in the captions may be a typo.
LEAST_USES = 2
# The longest text to train on, in words.
LONGEST = 32

TEMPLATES = (
    "{}", "{}", "{}", "{}s", "{} outdoors", "{} indoors", "close up of {}", "one {}", "two {}s",
    "{} in front of background", "small {}", "large {}", "{} on white background",
)  # fmt: skip


def make_tokenizer(captions: Iterable[str], names: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of whole words: those of the names, and those used at least twice in the
    captions.

    It ignores accents, case and function words.
    """
    tokenizer = Tokenizer(models.WordLevel({PAD: PAD_ID, UNKNOWN: UNKNOWN_ID}, UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(rf"\b({FUNCTION_WORDS})\b"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "removed")
    used = Counter(word for caption in captions for word in words_of(tokenizer, caption))
    words = {word for word, uses in used.items() if uses >= LEAST_USES}
    for name in names:
        words.update(words_of(tokenizer, name), words_of(tokenizer, plural(name)))
    for template in TEMPLATES:
        words.update(words_of(tokenizer, template.format("")))
    vocabulary = {word: place for place, word in enumerate([PAD, UNKNOWN, *sorted(words)])}
    tokenizer.model = models.WordLevel(vocabulary, UNKNOWN)
    return tokenizer


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the words a tokenizer splits a text into, known or not."""
    assert tokenizer.normalizer is not None
    assert tokenizer.pre_tokenizer is not None
    split = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    return [word for word, _ in split]


def plural(name: str) -> str:
    """Return the regular plural of an English noun."""
    if re.search(r"(s|x|z|ch|sh)$", name):
        return name + "es"
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + "s"


def phrase(name: str, rng: np.random.Generator) -> str:
    """Return a name in a random template."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    if "{}s" in template:
        return template.replace("{}s", plural(name))
    return template.format(name)
