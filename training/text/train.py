"""Train `lite`: `python -m training.text.train --data PLACE… --out FOLDER`.

Each PLACE is a folder or a tar file of photos. The features of the photos are computed first. Then
a linear map of them, half of an image's vector, and the words are trained together; the network
stays as it is (locked-image tuning: Zhai et al., "LiT", CVPR 2022).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from training.data.tables import files_in_test_split, read_captions, read_classes, read_labels
from training.data.wordnet import names_of_classes, read_nouns
from training.data.words import make_tokenizer
from training.learning.losses import many_positives
from training.learning.training_loop import (
    TrainingLoop,
    add_arguments,
    parse_and_seed,
)
from training.lite.network import Weights
from training.lite.prepare import prepare
from training.lite.projection import principal_components
from training.text.bank import text_bank
from training.text.correlation import start
from training.text.network import Towers
from training.text.pairs import Pairs
from training.text.photo_features import training_photos

TRAINED, BANK = "text.pt", "bank.npy"
# More steps learn the captions by heart.
STEPS = 300
# Texts in a step, and the photos each is compared with, at least.
TEXTS, CANDIDATES = 1024, 2500
LABEL_SMOOTHING = 0.1
# How much finding a photo's captions counts beside finding a text's photos.
PHOTOS_WEIGHT = 0.5
RATE, WORDS_DECAY = 2e-3, 1.0
IMAGES_RATE, DECAY = 1e-3, 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=60)
    parser.add_argument("--steps", type=int, default=STEPS, help="when to stop, if it is earlier")
    parser.add_argument("--classes", type=Path, help="the network's 1,001 classes, one per line")
    parser.add_argument("--wordnet", type=Path, help="the folder that holds WordNet's data.noun")
    parser.add_argument("--labels", type=Path, help="tab-separated file: file, label")
    return parse_and_seed(parser)


def main() -> None:
    args = arguments()
    captions = read_captions(args.captions)
    captioned = {caption.file for caption in captions}
    prepare(args.data, args.out, without=files_in_test_split(captions), captioned=captioned)
    weights = Weights()
    photos = training_photos(args.out, weights)
    captions = [caption for caption in captions if caption.file in photos.places]
    names = read_names(args.classes, args.wordnet)
    labels = read_labels(args.labels)
    texts = [caption.text for caption in captions]
    tokenizer = make_tokenizer(texts, [*names, *labels])
    tokenizer.save(str(args.out / "tokenizer.json"))
    print(
        f"{len(photos.names)} photos, {len(captions)} captions, {len(names)} names, "
        f"{len(labels)} labels, {tokenizer.get_vocab_size()} words",
        flush=True,
    )
    pairs = Pairs(photos, tokenizer, captions=captions, names=names, labels=labels, seed=args.seed)
    shown = principal_components(photos.whole().numpy(), weights.classes)
    towers = Towers(tokenizer.get_vocab_size(), shown, photos.whole())
    Trainer(args, towers, pairs).run()
    np.save(args.out / BANK, text_bank(towers, pairs).numpy())


def read_names(classes: Path | None, wordnet: Path | None) -> dict[str, set[int]]:
    """Return names, each with the network's classes that it names."""
    if classes is None:
        return {}
    return names_of_classes(read_classes(classes), read_nouns(wordnet) if wordnet else {})


class Trainer:
    """Both towers, what they learn from, and one step of their training."""

    def __init__(self, args: argparse.Namespace, towers: Towers, pairs: Pairs) -> None:
        self.towers, self.pairs = towers, pairs
        checkpoint = args.out / TRAINED
        if not checkpoint.exists():
            start(towers, pairs)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [towers.words.weight], "weight_decay": WORDS_DECAY},
                {"params": [towers.bias, towers.scale], "weight_decay": 0.0},
                {"params": towers.told.parameters(), "lr": IMAGES_RATE, "weight_decay": DECAY},
            ],
            lr=RATE,
            betas=(0.9, 0.98),
        )
        parts = {"towers": towers}
        self.loop = TrainingLoop(
            checkpoint, parts, [self.optimizer], minutes=args.minutes, steps=args.steps
        )

    def run(self) -> None:
        self.towers.train()
        self.loop.run(self._train_step)

    def _train_step(self) -> dict[str, float]:
        batch = self.pairs.draw(TEXTS, CANDIDATES)
        images = self.towers.images(batch.features)
        texts = self.towers.texts(batch.ids, batch.mask)
        logits = texts @ images.T * self.towers.scale.exp().clamp(max=100)
        found = many_positives(logits, batch.targets, smoothing=LABEL_SMOOTHING)
        # A photo's captions among those of the batch.
        of_photos = logits[: len(batch.own), batch.own].T
        same = (batch.own == batch.own[:, None]).float()
        shares = same / same.sum(1, keepdim=True)
        told = many_positives(of_photos, shares, smoothing=LABEL_SMOOTHING) if len(same) else 0.0
        loss = found + PHOTOS_WEIGHT * told
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.towers.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": loss.item()}


if __name__ == "__main__":
    main()
