"""What every benchmark agrees on: percentages, ties, and ranks in which the model loses its ties."""

import torch
from torch import Tensor

# Equal inputs need not give bit-equal similarities: a matrix product rounds differently at the edge of a tile.
TIE = 1e-6


def percent(hits: Tensor) -> float:
    """Mean of a non-empty bool or float tensor, in percent (0-100)."""
    return 100.0 * hits.double().mean().item()


def strictly_best(scores_NK: Tensor, correct_NK: Tensor, candidates_NK: Tensor | None = None) -> Tensor:
    """Whether every correct candidate beats every wrong one by more than rounding; a row without wrong ones counts.

    scores_NK: similarities. correct_NK: bool, the right answers of each row. candidates_NK: bool, what may be chosen at
    all; everything when None. Returns bool [N].
    """
    wrong_NK = ~correct_NK if candidates_NK is None else candidates_NK & ~correct_NK
    worst_N = scores_NK.masked_fill(~correct_NK, torch.inf).amin(1)
    return worst_N > scores_NK.masked_fill(~wrong_NK, -torch.inf).amax(1) + TIE
