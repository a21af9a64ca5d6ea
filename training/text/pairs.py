"""Texts and the photos that each is true of: captions, names of classes, labels of data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.photos import Caption
from training.data.words import altered, phrase
from training.text.embedded_photos import Gallery

# Of a batch, when there are all three.
SHARES = {"captions": 0.5, "names": 0.35, "labels": 0.15}
# Takes the long tail of what the teacher thinks barely possible out of a name's photos.
SHARPER = 1.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Word ids and mask, (n, words); vectors of photos; and how much of each text's truth is in
    each photo, (n, photos), in shares of 1.
    """

    ids: Tensor
    mask: Tensor
    truth: Tensor
    vectors: Tensor


class Pairs:
    """Draws texts with the photos, among candidates, that they are true of."""

    def __init__(
        self,
        gallery: Gallery,
        tokenizer: Tokenizer,
        *,
        captions: Sequence[Caption],
        names: dict[str, set[int]],
        labels: dict[str, set[str]],
        seed: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._rng = np.random.default_rng(seed)
        places = gallery.places
        self._captions = [(places[c.file], c.text) for c in captions if c.file in places]
        self._names = list(names)
        self._members = torch.zeros(len(names), gallery.shares.shape[1])
        for row, classes in enumerate(names.values()):
            self._members[row, list(classes)] = 1
        known = {
            label: [places[f] for f in files if f in places] for label, files in labels.items()
        }
        self._labels = [label for label, photos in known.items() if photos]
        self._labelled = torch.zeros(len(self._labels), len(gallery.names))
        for row, label in enumerate(self._labels):
            self._labelled[row, known[label]] = 1

        self._gallery = gallery
        self._shares = _shares_of(captions=self._captions, names=self._names, labels=self._labels)

    def draw(self, count: int, candidates: int) -> Batch:
        """Return `count` texts and at least as many photos as asked for, if there are so many."""
        counts = {kind: round(count * share) for kind, share in self._shares.items()}
        captions = [
            self._captions[i]
            for i in self._rng.integers(len(self._captions) or 1, size=counts["captions"])
        ]
        names = self._rng.integers(len(self._names) or 1, size=counts["names"])
        labels = self._rng.integers(len(self._labels) or 1, size=counts["labels"])
        # Each text needs a photo that it is true of; the other photos are there by chance.
        needed = torch.tensor([photo for photo, _ in captions], dtype=torch.long)
        if len(labels):
            needed = torch.cat([needed, torch.multinomial(self._labelled[labels], 1).squeeze(1)])
        photos = torch.cat([needed, torch.randperm(len(self._gallery.names))[:candidates]]).unique()
        vectors, shares = self._gallery.draw(photos)
        own = torch.searchsorted(photos, needed[: len(captions)])
        truth = torch.cat(
            [
                torch.nn.functional.one_hot(own, len(photos)).float(),
                (self._members[names] @ shares.T).pow(SHARPER),
                self._labelled[labels][:, photos],
            ]
        )
        texts = [text for _, text in captions]
        texts += [phrase(self._names[i], self._rng) for i in names]
        texts += [phrase(self._labels[i], self._rng) for i in labels]
        ids, mask = self._encoded(texts)
        return Batch(ids, mask, truth / truth.sum(1, keepdim=True).clamp(min=1e-9), vectors)

    def _encoded(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encodings = self._tokenizer.encode_batch(list(texts))
        return padded([altered(encoding.ids, self._rng) for encoding in encodings])


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return word ids as one tensor, and a mask of which of them are there."""
    longest = max(1, *(len(row) for row in rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return ids, (torch.arange(longest) < lengths).long()


def _shares_of(**kinds: Sequence[object]) -> dict[str, float]:
    """Return what share of a batch each kind of text has, given those that there are none of."""
    present = {kind: SHARES[kind] if texts else 0.0 for kind, texts in kinds.items()}
    return {kind: share / sum(present.values()) for kind, share in present.items()}
