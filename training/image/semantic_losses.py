"""What the semantic branch learns from: teachers' features, and captions."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.tables import Caption
from training.data.token_ids import bags_of_words, padded
from training.data.words import make_tokenizer
from training.image.network import FEATURES
from training.image.teacher import TeacherOutput
from training.image.teacher_views import OwnedDraw
from training.learning.least_squares import ridge_word_vectors
from training.learning.losses import many_positives

# How many principal components of the teacher's features are predicted.
COMPONENTS = 256
CLASSES_WEIGHT, CAPTIONS_WEIGHT = 0.1, 0.1
# How many captions are drawn at random, nearly all of them of other photos.
OTHERS = 1500
# The inverse temperature of how well captions fit a photo.
FIT_SHARPNESS = 20.0


class PrincipalComponents(NamedTuple):
    """Principal components, scaled so that their variances have mean 1."""

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, features: Tensor, count: int) -> Self:
        """Return the `count` largest components of features, (n, size)."""
        mean = features.mean(0)
        centred = features - mean
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        return cls(mean, axes[:, -count:] / variance[-count:].mean().sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.axes


class SemanticDistillation(nn.Module):
    """Losses of predicting the teacher's features and classes for exactly the view that the branch
    sees (Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR
    2022).
    """

    def __init__(self, sample: TeacherOutput) -> None:
        super().__init__()
        self._components = PrincipalComponents.of(sample.pooled, COMPONENTS)
        self.seen = nn.Linear(FEATURES, len(self._components.axes.T))
        self.classes = nn.Linear(FEATURES, sample.logits.shape[1])

    def forward(self, features: Tensor, output: TeacherOutput) -> dict[str, Tensor]:
        """Return each loss by name."""
        shares = self.classes(features).log_softmax(1)
        target = output.logits.softmax(1)
        classes = functional.kl_div(shares, target, reduction="batchmean")
        seen = functional.mse_loss(self.seen(features), self._components(output.pooled))
        return {"seen": seen, "classes": CLASSES_WEIGHT * classes}


class CaptionLoss(nn.Module):
    """The loss of photos' embeddings with captions, which are embedded as means of word vectors.

    Half of a photo's target is its own captions, the other half how well the better teacher's
    features say that each caption fits, since other photos' captions often fit too. `places` are
    the captions' photos; `embeddings` (photos, 512) are those that the photos should have.
    """

    def __init__(self, captions: Sequence[Caption], places: Tensor, embeddings: Tensor) -> None:
        super().__init__()
        texts = [caption.text for caption in captions]
        tokenizer = make_tokenizer(texts, [])
        ids, mask = padded([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        bags = bags_of_words(ids, tokenizer.get_vocab_size())
        words = ridge_word_vectors(bags.to_sparse(), embeddings[places])
        self._texts = functional.normalize(
            functional.embedding_bag(ids, words, per_sample_weights=mask.float(), mode="sum")
        )
        self._places, self._wanted = places, embeddings
        self._of_photos = OwnedDraw(places, len(embeddings))
        # The logarithm of the learned inverse temperature.
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, embeddings: Tensor, photos: Tensor) -> Tensor:
        """Return the loss of unit embeddings, (n, 512), of photos that all have captions."""
        drawn = torch.cat([self._of_photos(photos), torch.randint(len(self._texts), (OTHERS,))])
        texts = self._texts[drawn]
        own = (self._places[drawn] == photos.unsqueeze(1)).float()
        fitting = (self._wanted[photos] @ texts.T * FIT_SHARPNESS).softmax(1)
        targets = (own / own.sum(1, keepdim=True) + fitting) / 2
        return CAPTIONS_WEIGHT * many_positives(embeddings @ texts.T * self.scale.exp(), targets)
