"""Texts paired with the photos they describe: captions, names of classes, labels of data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.tables import Caption
from training.data.token_ids import padded
from training.data.words import altered, phrase
from training.text.embedded_photos import EmbeddedPhotos

# The shares of a batch, when there are texts of all three kinds.
SHARES = {"captions": 0.5, "names": 0.35, "labels": 0.15}
# The power that removes the long tail of photos which the teacher thinks barely possible.
TAIL_POWER = 1.5


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Word ids and their mask, (n, words); the photos that each text describes, (n, photos), as
    shares that sum to 1; and the photos' vectors, (photos, 384).
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    vectors: Tensor


class Pairs:
    """Draws texts, each with the photos among the candidates that it describes."""

    def __init__(
        self,
        photos: EmbeddedPhotos,
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
        self._shares = _batch_shares(
            captions=self._captions, names=self._names, labels=self._labels
        )

    def draw(self, count: int, candidates: int) -> TextBatch:
        """Return `count` texts and at least `candidates` photos, if there are so many."""
        counts = {kind: round(count * share) for kind, share in self._shares.items()}
        captions = [
            self._captions[i]
            for i in self._rng.integers(len(self._captions) or 1, size=counts["captions"])
        ]
        names = self._rng.integers(len(self._names) or 1, size=counts["names"])
        labels = self._rng.integers(len(self._labels) or 1, size=counts["labels"])
        # A caption or label needs a photo that it describes; the other photos are drawn at random.
        needed = torch.tensor([photo for photo, _ in captions], dtype=torch.long)
        if len(labels):
            needed = torch.cat([needed, torch.multinomial(self._labelled[labels], 1).squeeze(1)])
        photos = torch.cat([needed, torch.randperm(len(self._photos))[:candidates]]).unique()
        vectors, shares = self._photos.draw(photos)
        own = torch.searchsorted(photos, needed[: len(captions)])
        targets = torch.cat(
            [
                torch.nn.functional.one_hot(own, len(photos)).float(),
                (self._members[names] @ shares.T).pow(TAIL_POWER),
                self._labelled[labels][:, photos],
            ]
        )
        texts = [text for _, text in captions]
        texts += [phrase(self._names[i], self._rng) for i in names]
        texts += [phrase(self._labels[i], self._rng) for i in labels]
        ids, mask = self._encoded(texts)
        targets = targets / targets.sum(1, keepdim=True).clamp(min=1e-9)
        return TextBatch(ids, mask, targets, vectors)

    def _encoded(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encodings = self._tokenizer.encode_batch(list(texts))
        return padded([altered(encoding.ids, self._rng) for encoding in encodings])


def _batch_shares(**kinds: Sequence[object]) -> dict[str, float]:
    """Return each kind's share of a batch; kinds without texts leave theirs to the others."""
    present = {kind: SHARES[kind] if texts else 0.0 for kind, texts in kinds.items()}
    return {kind: share / sum(present.values()) for kind, share in present.items()}
