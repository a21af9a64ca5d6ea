"""Train the text tower: `python -m training.text_train --data FOLDER_OR_TAR… --out FOLDER`.

Against the frozen image tower (locked-image tuning: Zhai et al., "LiT", CVPR 2022).
"""

import argparse
import json
import math
from pathlib import Path
from time import perf_counter

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from app.weights import BUILTIN_DIRECTORY
from training.data import read_captions, read_labels
from training.gallery import Gallery, make_gallery
from training.text_network import TextNetwork
from training.text_pairs import Pairs
from training.train import schedule
from training.wordnet import names_of_classes, read_nouns
from training.words import make_tokenizer

TEXTS, CANDIDATES = 384, 3072
SMOOTHING = 0.1
RATE, DECAY = 1e-3, 0.1
# The share of the deviation that stays in the least varied directions of the pictures' vectors.
LEAST_DEVIATION = 0.1
CHECKPOINT_S = 60


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tar files")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and the log")
    parser.add_argument("--model", type=Path, default=BUILTIN_DIRECTORY, help="the image tower")
    parser.add_argument("--classes", type=Path, help="the teacher's 1,001 classes, a line each")
    parser.add_argument("--wordnet", type=Path, help="the folder of WordNet's data.noun")
    parser.add_argument("--labels", type=Path, help="tab-separated: file, label")
    parser.add_argument("--captions", type=Path, help="tab-separated: file, split, caption")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    captions = read_captions(given.captions)
    unseen = {caption.file for caption in captions if caption.split != "train"}
    gallery = make_gallery(given.data, given.model, given.out, without=unseen)
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
    Trainer(given, gallery, tokenizer, pairs).run()


def read_names(classes: Path | None, wordnet: Path | None) -> dict[str, set[int]]:
    """Return names with the teacher's classes that they name; the file's first is no class."""
    if classes is None:
        return {}
    lines = classes.read_text("utf-8").splitlines()[1:]
    return names_of_classes(lines, read_nouns(wordnet) if wordnet else {})


class Trainer:
    """The loop, its state, and its checkpoints."""

    def __init__(
        self, given: argparse.Namespace, gallery: Gallery, tokenizer: Tokenizer, pairs: Pairs
    ) -> None:
        self.given, self.pairs = given, pairs
        self.network = TextNetwork(
            tokenizer.get_vocab_size(), spread_of(gallery.vectors.flatten(0, 1))
        )
        self.scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": DECAY},
                {"params": [*others, self.scale], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.elapsed_s, self.step = 0.0, 0
        checkpoint = given.out / "text.pt"
        if checkpoint.exists():
            state = torch.load(checkpoint)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scale.data = state["scale"]
            self.elapsed_s, self.step = state["elapsed_s"], state["step"]

    def run(self) -> None:
        budget_s = self.given.minutes * 60
        last = saved = perf_counter()
        total = 0.0
        self.network.train()
        while self.elapsed_s < budget_s:
            for group in self.optimizer.param_groups:
                group["lr"] = RATE * schedule(self.elapsed_s / budget_s)
            total += self._train_step()
            self.step += 1
            now = perf_counter()
            self.elapsed_s, last = self.elapsed_s + now - last, now
            if self.step % 50 == 0:
                shown = {
                    "step": self.step,
                    "s": round(self.elapsed_s),
                    "loss": round(total / 50, 4),
                }
                print(json.dumps(shown), flush=True)
                total = 0.0
            if now - saved > CHECKPOINT_S:
                self._save()
                saved = now
        self._save()

    def _train_step(self) -> float:
        batch = self.pairs.draw(TEXTS, CANDIDATES)
        texts = functional.normalize(self.network(batch.ids, batch.mask))
        logits = texts @ batch.vectors.T * self.scale.exp().clamp(max=100)
        loss = info_nce(logits, batch.truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scale": self.scale.data,
            "elapsed_s": self.elapsed_s,
            "step": self.step,
        }
        scratch = self.given.out / "text.tmp"
        torch.save(state, scratch)
        scratch.replace(self.given.out / "text.pt")


def info_nce(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean cross entropy of texts' truths, smoothed, with their logits for photos.

    InfoNCE (van den Oord et al., 2018) with label smoothing (Szegedy et al., 2016). Texts that are
    true of none of the photos do not count.
    """
    known = truth.sum(1) > 0
    log_shares = logits[known].log_softmax(1)
    told = -(truth[known] * log_shares).sum(1)
    return ((1 - SMOOTHING) * told - SMOOTHING * log_shares.mean(1)).mean()


def spread_of(vectors: Tensor) -> Tensor:
    """Return the (512, 512) matrix that takes the pictures' vectors' correlations back out.

    A text that differs from others in some direction then differs by as much as pictures do.
    """
    centred = vectors - vectors.mean(0)
    deviation, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    deviation = deviation.clamp(min=0).sqrt()
    kept = deviation > 1e-4 * deviation.max()
    weights = kept / (deviation + LEAST_DEVIATION * deviation.max())
    return axes * weights @ axes.T


if __name__ == "__main__":
    main()
