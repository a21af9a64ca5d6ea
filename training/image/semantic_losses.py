"""What the semantic branch learns: what teachers see in a picture, and what people say of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.photos import Caption
from training.data.words import make_tokenizer
from training.image.network import FEATURES
from training.image.teacher import Lesson
from training.image.teacher_views import Belongings
from training.learning.least_squares import ridge
from training.learning.losses import info_nce
from training.text.pairs import padded

COMPONENTS = 256
CLASSES_WEIGHT, CAPTIONS_WEIGHT = 0.1, 0.1
# Captions that are, but for chance, of other photos.
OTHERS = 1500
# The inverse temperature of how well captions fit a photo.
SHARPNESS = 20.0


class Principal(NamedTuple):
    """Principal components, whose variances have the mean 1."""

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, features: Tensor, count: int) -> "Principal":
        """Return the `count` largest of features, (n, size)."""
        mean = features.mean(0)
        centred = features - mean
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        return cls(mean, axes[:, -count:] / variance[-count:].mean().sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.axes


class SemanticLessons(nn.Module):
    """The teacher's features and classes of the very view that the branch sees (Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022).
    """

    def __init__(self, sample: Lesson) -> None:
        super().__init__()
        self._principal = Principal.of(sample.pooled, COMPONENTS)
        self.seen = nn.Linear(FEATURES, len(self._principal.axes.T))
        self.classes = nn.Linear(FEATURES, sample.logits.shape[1])

    def forward(self, features: Tensor, lesson: Lesson) -> dict[str, Tensor]:
        """Return each loss."""
        shares = self.classes(features).log_softmax(1)
        target = lesson.logits.softmax(1)
        classes = functional.kl_div(shares, target, reduction="batchmean")
        seen = functional.mse_loss(self.seen(features), self._principal(lesson.pooled))
        return {"seen": seen, "classes": CLASSES_WEIGHT * classes}


class CaptionLessons(nn.Module):
    """What captions say, as means of word vectors: a photo's embedding is to be near its own, and
    near others' as far as what the better teacher sees in the photo is.

    InfoNCE (van den Oord et al., 2018) whose truth is half the one and half the other, for other
    captions often fit too. `places` are the captions' photos; `targets` (photos, 512) the
    embeddings photos are to have.
    """

    def __init__(self, captions: Sequence[Caption], places: Tensor, targets: Tensor) -> None:
        super().__init__()
        texts = [caption.text for caption in captions]
        tokenizer = make_tokenizer(texts, [])
        ids, mask = padded([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        present = torch.zeros(len(texts), tokenizer.get_vocab_size()).scatter_(1, ids, 1.0)
        words = ridge(present.to_sparse(), targets[places])
        self._texts = functional.normalize(
            functional.embedding_bag(ids, words, per_sample_weights=mask.float(), mode="sum")
        )
        self._places, self._targets = places, targets
        self._of_photos = Belongings(places, len(targets))
        # The logarithm of the inverse temperature, which is learned.
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, embeddings: Tensor, photos: Tensor) -> Tensor:
        """Return the loss of photos' unit embeddings, (n, 512); all photos have captions."""
        drawn = torch.cat([self._of_photos(photos), torch.randint(len(self._texts), (OTHERS,))])
        texts = self._texts[drawn]
        own = (self._places[drawn] == photos.unsqueeze(1)).float()
        fitting = (self._targets[photos] @ texts.T * SHARPNESS).softmax(1)
        truth = (own / own.sum(1, keepdim=True) + fitting) / 2
        return CAPTIONS_WEIGHT * info_nce(embeddings @ texts.T * self.scale.exp(), truth)
