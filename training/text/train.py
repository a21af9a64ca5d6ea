"""Train `lite`: `python -m training.text.train --data PLACE… --out FOLDER`.

Each PLACE is a folder or a tar file of photos. The image tower is prepared first, if FOLDER has
none; then the text tower is trained against it (locked-image tuning: Zhai et al., "LiT", CVPR
2022).
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from training.data.tables import files_in_test_split, read_captions, read_classes, read_labels
from training.data.wordnet import names_of_classes, read_nouns
from training.data.words import make_tokenizer
from training.learning.least_squares import whitening
from training.learning.losses import many_positives
from training.learning.training_loop import (
    TrainingLoop,
    add_arguments,
    decay_groups,
    parse_and_seed,
)
from training.lite.prepare import prepare
from training.text.embedded_photos import EmbeddedPhotos, embedded_photos
from training.text.network import TextNetwork
from training.text.pairs import Pairs
from training.text.word_vectors import fit_word_vectors

# Texts in a step, and the photos each is compared with, at least.
TEXTS, CANDIDATES = 384, 2048
LABEL_SMOOTHING = 0.1
RATE, DECAY = 1e-3, 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=15)
    parser.add_argument("--classes", type=Path, help="the network's 1,001 classes, one per line")
    parser.add_argument("--wordnet", type=Path, help="the folder that holds WordNet's data.noun")
    parser.add_argument("--labels", type=Path, help="tab-separated file: file, label")
    return parse_and_seed(parser)


def main() -> None:
    args = arguments()
    captions = read_captions(args.captions)
    prepare(args.data, args.out, without=files_in_test_split(captions))
    photos = embedded_photos(args.out)
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
    TextTrainer(args, photos, tokenizer, pairs).run()


def read_names(classes: Path | None, wordnet: Path | None) -> dict[str, set[int]]:
    """Return names, each with the network's classes that it names."""
    if classes is None:
        return {}
    return names_of_classes(read_classes(classes), read_nouns(wordnet) if wordnet else {})


class TextTrainer:
    """The text tower, what it learns from, and one step of its training."""

    def __init__(
        self, args: argparse.Namespace, photos: EmbeddedPhotos, tokenizer: Tokenizer, pairs: Pairs
    ) -> None:
        self.pairs = pairs
        vectors = photos.vectors.flatten(0, 1)
        vocabulary, whiten = tokenizer.get_vocab_size(), whitening(vectors)
        self.network = TextNetwork(vocabulary, whiten)
        checkpoint = args.out / "text.pt"
        if not checkpoint.exists():
            words = fit_word_vectors(pairs, vocabulary, vectors.mean(0), whiten)
            self.network.start_from(words)
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.network.parameters(), decay=DECAY), lr=RATE, betas=(0.9, 0.98)
        )
        parts = {"network": self.network}
        self.loop = TrainingLoop(checkpoint, parts, [self.optimizer], minutes=args.minutes)

    def run(self) -> None:
        self.network.train()
        self.loop.run(self._train_step, shown_every=50)

    def _train_step(self) -> dict[str, float]:
        batch = self.pairs.draw(TEXTS, CANDIDATES)
        texts = functional.normalize(self.network(batch.ids, batch.mask))
        logits = texts @ batch.vectors.T * self.network.scale.exp().clamp(max=100)
        loss = many_positives(logits, batch.targets, smoothing=LABEL_SMOOTHING)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": loss.item()}


if __name__ == "__main__":
    main()
