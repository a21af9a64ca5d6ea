"""Texts paired with the photos they describe: captions, names of classes, labels of data sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.tables import Caption
from training.data.token_ids import padded
from training.data.words import LONGEST, phrase
from training.text.photo_features import TrainingPhotos

Shares = Mapping[str, float]
# The shares of a batch, when there are texts of all three kinds.
SHARES: Shares = {"captions": 0.65, "names": 0.25, "labels": 0.1}
# The power that removes the long tail of photos which the teacher thinks barely possible.
TAIL_POWER = 1.5


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Word ids and their mask, (n, words); the photos that each text describes, (n, photos), as
    shares that sum to 1; and the photos' features, (photos, 1280).

    Captions come first; `own` are the photos of them.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    features: Tensor
    own: Tensor


class Pairs:
    """Draws texts, each with the photos among the candidates that it describes."""

    def __init__(
        self,
        photos: TrainingPhotos,
        tokenizer: Tokenizer,
        *,
        captions: Sequence[Caption],
        names: dict[str, set[int]],
        labels: dict[str, set[str]],
        seed: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._rng = np.random.default_rng(seed)
        places = photos.places
        self._captions = [(places[c.file], c.text) for c in captions if c.file in places]
        self._shuffled_captions = self._shuffle_captions()
        self._captioned = torch.tensor([place for place, _ in self._captions]).long().unique()
        self._names = list(names)
        self._members = torch.zeros(len(names), photos.shares.shape[1])
        for row, classes in enumerate(names.values()):
            self._members[row, list(classes)] = 1
        known = {
            label: [places[f] for f in files if f in places] for label, files in labels.items()
        }
        self._labels = [label for label, labelled in known.items() if labelled]
        self._labelled = torch.zeros(len(self._labels), len(photos))
        for row, label in enumerate(self._labels):
            self._labelled[row, known[label]] = 1

        self._photos = photos
        self._kinds = {"captions": self._captions, "names": self._names, "labels": self._labels}

    def draw(self, count: int, candidates: int, shares: Shares = SHARES) -> TextBatch:
        """Return `count` texts and at least `candidates` photos, if there are so many.

        Kinds without texts leave their share to the others.
        """
        present = {kind: share if self._kinds[kind] else 0.0 for kind, share in shares.items()}
        whole = sum(present.values())
        counts = {kind: round(count * share / whole) for kind, share in present.items()}
        captions = list(islice(self._shuffled_captions, counts["captions"]))
        names = self._rng.integers(len(self._names) or 1, size=counts["names"])
        labels = self._rng.integers(len(self._labels) or 1, size=counts["labels"])
        # A caption or label needs a photo that it describes; the other photos are drawn at random.
        needed = torch.tensor([photo for photo, _ in captions], dtype=torch.long)
        if len(labels):
            needed = torch.cat([needed, torch.multinomial(self._labelled[labels], 1).squeeze(1)])
        photos = torch.cat([needed, self._candidates(candidates)]).unique()
        features, classes = self._photos.draw(photos)
        own = torch.searchsorted(photos, needed[: len(captions)])
        targets = torch.cat(
            [
                torch.nn.functional.one_hot(own, len(photos)).float(),
                (self._members[names] @ classes.T).pow(TAIL_POWER),
                self._labelled[labels][:, photos],
            ]
        )
        texts = [text for _, text in captions]
        texts += [phrase(self._names[i], self._rng) for i in names]
        texts += [phrase(self._labels[i], self._rng) for i in labels]
        ids, mask = self._encoded(texts)
        targets = targets / targets.sum(1, keepdim=True).clamp(min=1e-9)
        return TextBatch(ids, mask, targets, features, own)

    def _shuffle_captions(self) -> Iterator[tuple[int, str]]:
        """Yield all captions in random order, and again."""
        while self._captions:
            for place in self._rng.permutation(len(self._captions)):
                yield self._captions[place]

    def _candidates(self, count: int) -> Tensor:
        """Return random photos, half of them with captions: those are hard to tell apart."""
        captioned = self._captioned[torch.randperm(len(self._captioned))[: count // 2]]
        others = torch.randperm(len(self._photos))[: count - len(captioned)]
        return torch.cat([captioned, others])

    def _encoded(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encodings = self._tokenizer.encode_batch(list(texts))
        return padded([encoding.ids[:LONGEST] for encoding in encodings])
