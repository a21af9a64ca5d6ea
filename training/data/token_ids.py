"""Texts as tensors of word ids."""

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return word ids and a mask that is 1 for words and 0 for padding, both (texts, words)."""
    longest = max(1, *(len(row) for row in rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return ids, (torch.arange(longest) < lengths).long()


def bags_of_words(ids: Tensor, vocabulary: int) -> Tensor:
    """Return which words each text has, 1 or 0: (texts, vocabulary)."""
    return torch.zeros(len(ids), vocabulary).scatter_(1, ids, 1.0)
