"""A search as its page shows it: the fields of its URL, the chips of its parts and its filters."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from app.problems import InvalidRequest
from app.search.query import Term, read_terms, written_terms
from app.search.requests import FilterRequest

# The fields that make a query; without any of them there are no results to show.
ASKED = ("url", "text", "upload", "like", "unlike", "face", "cursor")
# Fields that only a query by one whole image has.
WHOLE = ("min_similarity", "match", "thorough")
# Fields that filters alone do not have.
QUERIED = (*WHOLE, "diversity")
# Fields that say how the page looks, not what is searched.
LOOKS = ("panel", "density", "show", "choose")
# Fields of the form alone, and those that the URL of a changed search does not keep.
PASSING = ("cursor", "file", "parts", "weight", "show")
# Fields of images that are named one by one, in their chips.
NAMED = ("upload", "url", "like", "unlike")
# The weights that a chip offers.
WEIGHTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Part:
    """A term of the query as a chip; `rest` is the text of the search without it."""

    term: Term
    rest: str

    @property
    def words(self) -> str:
        """The term without its weight, as it is typed."""
        return written_terms([replace(self.term, weight=1.0)])

    @property
    def weights(self) -> list[float]:
        """The weights to choose from."""
        return sorted({*WEIGHTS, self.term.weight})


@dataclass(frozen=True)
class Shown:
    """A search as its form shows it: the fields of its URL."""

    fields: Sequence[tuple[str, str]]

    def value(self, name: str) -> str:
        """Return the last value of a field, or an empty string."""
        return self.values(name)[-1] if self.values(name) else ""

    def values(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.fields if key == name and value.strip()]

    def starting(self, name: str, prefix: str) -> list[str]:
        """Return the values of a field that start so, whatever their case."""
        return [v for v in self.values(name) if v.casefold().startswith(prefix.casefold())]

    def range_of(self, key: str) -> tuple[str, str]:
        """Return the limits of a range of metadata, as they were entered."""
        for value in self.starting("metadata", f"{key}="):
            lowest, dots, highest = value.partition("=")[2].partition("..")
            if dots:
                return lowest, highest
        return "", ""

    def url(self, **changed: str) -> str:
        """Return the URL of the same search with some fields changed; an empty one is removed."""
        kept = [pair for pair in self.fields if pair[0] not in (*changed, *PASSING)]
        return _url([*kept, *changed.items()])

    def url_without(self, name: str, value: str) -> str:
        """Return the URL of the same search without one value of a field."""
        return _url([p for p in self.fields if p != (name, value) and p[0] not in PASSING])

    def face_url(self, order: int) -> str:
        """Return the URL of the search by a face of the upload, within the same filters."""
        kept = [*self.narrowed, *((name, self.value(name)) for name in ("panel", "density"))]
        found = {"upload": self.value("upload"), "choose": "face", "face": str(order)}
        return _url([*found.items(), *kept])

    @property
    def is_of_its_face(self) -> bool:
        """Whether the search is by a face of the query image, and not by one of the index."""
        return bool(self.value("upload")) and self.value("face").isdecimal()

    def url_without_filters(self) -> str:
        """Return the URL of the same search without filters."""
        filters = (*FilterRequest.model_fields, *PASSING)
        return _url([pair for pair in self.fields if pair[0] not in filters])

    @cached_property
    def terms(self) -> list[Term]:
        """The terms of the text; none if it cannot be read."""
        with suppress(InvalidRequest):
            return read_terms(self.value("text"))
        return []

    @property
    def parts(self) -> list[Part]:
        """The chips of the text's terms; none for one phrase alone, which stays as it was typed."""
        terms = self.terms
        is_alone = not any(self.values(name) for name in ("url", "upload", "like", "unlike"))
        if is_alone and len(terms) == 1 and terms[0].text is not None and terms[0].weight == 1:
            return []
        return [
            Part(term, written_terms([*terms[:i], *terms[i + 1 :]])) for i, term in enumerate(terms)
        ]

    @property
    def is_mixed(self) -> bool:
        """Whether there are several parts, so that their weights count."""
        return _has_several(self.fields)

    def weight_of(self, name: str) -> float:
        """Return the weight of an image that the search names."""
        return _weights(self.fields).get(name, 1.0)

    def weights_of(self, name: str) -> list[float]:
        """Return the weights to choose from for an image that the search names."""
        return sorted({*WEIGHTS, self.weight_of(name)})

    def values_url(self, field: str, key: str = "") -> str:
        """Return the URL of the values of a filter, within the filters of the search."""
        asked = [("facet", field), *([("key", key)] if key else [])]
        return f"/api/facets/values?{urlencode([*asked, *self.narrowed])}"

    @property
    def typed(self) -> str:
        """What the text field has: the text, unless it is shown as chips."""
        return "" if self.parts else self.value("text")

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The fields of the query, without those that only a query by one whole image has."""
        left_out = (*LOOKS, *(QUERIED if self.is_list else WHOLE if self.is_ranked else ()))
        if self.value("face"):
            left_out = (*left_out, "sort", "diversity")
        pairs = [pair for pair in self.fields if pair[0] not in left_out]
        is_sorted = not (
            (self.value("diversity") and not self.is_list)
            or ((self.is_ranked or self.is_list) and self.value("sort") == "changed")
        )
        return [pair for pair in pairs if is_sorted or pair[0] != "sort"]

    @property
    def narrowed(self) -> list[tuple[str, str]]:
        """The fields that are filters."""
        return [
            (key, v) for key, v in self.fields if key in FilterRequest.model_fields and v.strip()
        ]

    @property
    def image(self) -> str:
        """The query image as the page that compares it with a result names it, if it is alone."""
        terms = [*(Term(url=url) for url in self.values("url")), *self.terms]
        uploads = self.values("upload")
        if len(terms) + len(uploads) != 1:
            return ""
        return uploads[0] if uploads else terms[0].url or str(terms[0].image or "")

    @property
    def is_asked(self) -> bool:
        """Whether there is a query."""
        return any(self.values(name) for name in ASKED)

    @property
    def has_filters(self) -> bool:
        """Whether any filter is set."""
        return bool(self.narrowed)

    @property
    def is_list(self) -> bool:
        """Whether there is no query, so that what passes the filters is listed."""
        return not any(self.values(name) for name in ASKED if name != "cursor")

    @property
    def is_ranked(self) -> bool:
        """Whether results are only ranked, because the query is not one whole image."""
        return any(self.values(name) for name in ("text", "like", "unlike", "crop", "face"))

    @property
    def is_phrase(self) -> bool:
        """Whether the query is words alone."""
        others = ("url", "upload", "like", "unlike")
        texts = [term for term in self.terms if term.text is not None]
        return (
            bool(texts)
            and len(texts) == len(self.terms)
            and not any(self.values(name) for name in others)
        )


def submitted(fields: Sequence[tuple[str, str]]) -> Shown:
    """Return the search that a form describes.

    Its `parts` are the terms shown as chips, of the weights `weight`; its `text` is added to them.
    A URL as the text is that of the query image, which replaces another.
    """
    form = Shown(fields)
    typed, parts = form.value("text").strip(), form.value("parts")
    changed: dict[str, str] = {}
    if _is_url(typed):
        changed = {"url": typed, "upload": "", "crop": ""}
        typed = ""
    if (
        typed
        or parts
        or changed
        or (form.value("upload") and not form.is_of_its_face)
        or any(form.values(name) for name in ("url", "like", "unlike", "crop"))
    ):
        # A face is searched by alone: what is asked now takes its place.
        changed["face"] = ""
    parts = _weighted(parts, form.values("weight"))
    others = [(n, v) for n, v in fields if n not in (*PASSING, "text", *changed)]
    return Shown(
        [*_with_metadata(_turned(others)), *changed.items(), ("text", joined(parts, typed))]
    )


def _with_metadata(fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a form's fields with those for one key of metadata as `metadata`.

    `from:KEY` and `to:KEY` are the limits of a range, `metadata:KEY=` is one more value.
    """
    kept: list[tuple[str, str]] = []
    limits: dict[str, dict[str, str]] = {}
    for name, value in fields:
        kind, _, key = name.partition(":")
        if key and kind in ("from", "to"):
            limits.setdefault(key, {})[kind] = value.strip()
        elif key and kind == "metadata":
            kept += [("metadata", f"{key}{value.strip()}")] if value.strip() else []
        else:
            kept.append((name, value))
    for key, given in limits.items():
        if any(given.values()):
            kept.append(("metadata", f"{key}={given.get('from', '')}..{given.get('to', '')}"))
    return kept


def _turned(fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a form's fields with images on the side, `like` or `unlike`, that their weight has."""
    other = {"like": "unlike", "unlike": "like"}
    marked = {value for name, value in fields if name in other}
    turned = {name for name, weight in _weights(fields).items() if weight < 0 and name in marked}
    kept = [(other.get(n, n) if v in turned else n, v) for n, v in fields if n != "weights"]
    weights = _weights(fields).items()
    return kept + [("weights", f"{n}={abs(w) if n in turned else w:g}") for n, w in weights]


def _weights(fields: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Return the weights that fields have for images, by what names them."""
    found: dict[str, float] = {}
    for field, value in fields:
        name, equals, weight = value.rpartition("=")
        if field == "weights" and equals:
            with suppress(ValueError):
                found[name] = float(weight)
    return found


def _has_several(fields: Sequence[tuple[str, Any]]) -> bool:
    images = sum(name in NAMED and bool(str(value).strip()) for name, value in fields)
    texts = [str(value) for name, value in fields if name == "text"]
    return images + (len(Shown([("text", texts[-1])]).terms) if texts else 0) > 1


def _weighed(fields: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return fields without weights that say nothing: of what is gone or alone, or of 1."""
    pairs = list(fields)
    named = {value for name, value in pairs if name in NAMED} if _has_several(pairs) else set[Any]()
    weights = [(n, w) for n, w in _weights(pairs).items() if n in named and w != 1]
    kept = [pair for pair in pairs if pair[0] != "weights"]
    return kept + [("weights", f"{name}={weight:g}") for name, weight in weights]


def joined(parts: str, typed: str) -> str:
    """Return an expression with more terms; one without a sign is added."""
    if not parts or not typed:
        return parts or typed
    return f"{parts} {typed}" if typed.startswith(("+ ", "- ")) else f"{parts} + {typed}"


def _weighted(parts: str, weights: Sequence[str]) -> str:
    with suppress(InvalidRequest, ValueError):
        terms, numbers = read_terms(parts), [float(weight) for weight in weights]
        if len(terms) == len(numbers) and all(-100 <= n <= 100 and n for n in numbers):
            pairs = zip(terms, numbers, strict=True)
            return written_terms([replace(term, weight=number) for term, number in pairs])
    return parts


def _is_url(typed: str) -> bool:
    with suppress(InvalidRequest):
        terms = read_terms(typed)
        return len(terms) == 1 and terms[0].url is not None and terms[0].weight == 1
    return False


def _url(fields: Iterable[tuple[str, Any]]) -> str:
    given = [(name, value) for name, value in _weighed(fields) if str(value).strip()]
    return f"/?{urlencode(given)}" if given else "/"
