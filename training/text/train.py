"""Train the text tower: `python -m training.text.train --data FOLDER_OR_TAR… --out FOLDER`.

Against the frozen image tower (locked-image tuning: Zhai et al., "LiT", CVPR 2022).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from app.encoding.weights import BUILTIN_DIRECTORY
from training.data.photos import files_to_test_on, read_captions, read_classes, read_labels
from training.data.wordnet import names_of_classes, read_nouns
from training.data.words import make_tokenizer
from training.learning.least_squares import fit_word_vectors, spread_of
from training.learning.losses import info_nce
from training.learning.training_loop import Loop, add_arguments, grouped, started
from training.text.embedded_photos import Gallery, make_gallery
from training.text.network import TextNetwork
from training.text.pairs import Pairs, padded
from training.text.querybank import Querybank

TEXTS, CANDIDATES = 384, 3072
SMOOTHING = 0.1
RATE, DECAY = 1e-3, 0.1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, minutes=15)
    parser.add_argument("--model", type=Path, default=BUILTIN_DIRECTORY, help="the image tower")
    parser.add_argument("--classes", type=Path, help="the teacher's 1,001 classes, a line each")
    parser.add_argument("--wordnet", type=Path, help="the folder of WordNet's data.noun")
    parser.add_argument("--labels", type=Path, help="tab-separated: file, label")
    return started(parser)


def main() -> None:
    given = arguments()
    captions = read_captions(given.captions)
    kept_back = files_to_test_on(captions)
    gallery = make_gallery(given.data, given.model, given.out, without=kept_back)
    captions = [caption for caption in captions if caption.file in gallery.places]
    names = read_names(given.classes, given.wordnet)
    labels = read_labels(given.labels)
    texts = [caption.text for caption in captions]
    tokenizer = make_tokenizer(texts, [*names, *labels])
    tokenizer.save(str(given.out / "tokenizer.json"))
    print(
        f"{len(gallery.names)} photos, {len(captions)} captions, {len(names)} names, "
        f"{len(labels)} labels, {tokenizer.get_vocab_size()} words",
        flush=True,
    )
    pairs = Pairs(
        gallery, tokenizer, captions=captions, names=names, labels=labels, seed=given.seed
    )
    trainer = Trainer(given, gallery, tokenizer, pairs)
    trainer.run()
    # What people say, or, if no one has said anything, what there is.
    trainer.finish(texts or [*names, *labels])


def read_names(classes: Path | None, wordnet: Path | None) -> dict[str, set[int]]:
    """Return names with the teacher's classes that they name."""
    if classes is None:
        return {}
    return names_of_classes(read_classes(classes), read_nouns(wordnet) if wordnet else {})


class Trainer:
    """What is trained, on what, and a step of it."""

    def __init__(
        self, given: argparse.Namespace, gallery: Gallery, tokenizer: Tokenizer, pairs: Pairs
    ) -> None:
        self.given, self.gallery, self.tokenizer, self.pairs = given, gallery, tokenizer, pairs
        vectors = gallery.vectors.flatten(0, 1)
        vocabulary, spread = tokenizer.get_vocab_size(), spread_of(vectors)
        self.network = TextNetwork(vocabulary, spread)
        checkpoint = given.out / "text.pt"
        if not checkpoint.exists():
            words = fit_word_vectors(pairs, vocabulary, vectors.mean(0), spread)
            self.network.start_from(words)
        self.optimizer = torch.optim.AdamW(
            grouped(self.network.parameters(), decay=DECAY), lr=RATE, betas=(0.9, 0.98)
        )
        parts = {"network": self.network}
        self.loop = Loop(checkpoint, parts, [self.optimizer], minutes=given.minutes)

    def run(self) -> None:
        self.network.train()
        self.loop.run(self._train_step, shown_every=50)

    @torch.no_grad()
    def finish(self, texts: Sequence[str]) -> None:
        """Make the querybank of such texts."""
        self.network.eval()
        encodings = self.tokenizer.encode_batch(list(texts))
        embeddings = [
            self.network(*padded([encoding.ids for encoding in encodings[first : first + TEXTS]]))
            for first in range(0, len(encodings), TEXTS)
        ]
        bank = Querybank.of(torch.cat(embeddings)).centred(self.gallery.vectors[:, 0])
        torch.save(tuple(bank), self.given.out / "querybank.pt")

    def _train_step(self) -> dict[str, float]:
        batch = self.pairs.draw(TEXTS, CANDIDATES)
        texts = functional.normalize(self.network(batch.ids, batch.mask))
        logits = texts @ batch.vectors.T * self.network.scale.exp().clamp(max=100)
        loss = info_nce(logits, batch.truth, smoothing=SMOOTHING)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": loss.item()}


if __name__ == "__main__":
    main()
