"""What every benchmark agrees on: percentages, ties, and ranks in which the model loses its ties."""

import torch
from torch import Tensor

from vlalign.evaluation.benchmark import ALL, MetricRow
from vlalign.evaluation.bootstrap import mean

# Equal inputs need not give bit-equal similarities: a matrix product rounds differently at the edge of a tile.
TIE = 1e-6


def percent(hits: Tensor) -> float:
    """Mean of a non-empty bool or float tensor, in percent (0-100)."""
    return 100.0 * hits.double().mean().item()


def scored(
    metric: str,
    scores_N: Tensor,
    *,
    group: str = ALL,
    stratum: str = ALL,
    chance: float | None = None,
    blocks_N: Tensor | None = None,
) -> MetricRow:
    """The row of a metric that is the mean over items, in percent, which holds the items too.

    scores_N: bool, or float in 0-1, at least one. blocks_N: long, where it is the mean of the blocks' means.
    """
    # Scores that are counted by their values are held in few bytes; single precision is that of all embeddings.
    items = scores_N.numpy() if scores_N.dtype == torch.bool else scores_N.float().numpy()
    blocks = None if blocks_N is None else blocks_N.numpy()
    value = percent(scores_N) if blocks is None else 100.0 * mean(items, blocks)
    n = len(scores_N)
    return MetricRow(
        metric=metric, group=group, stratum=stratum, value=value, n=n, chance=chance, items=items, blocks=blocks
    )


def strictly_best(scores_NK: Tensor, correct_NK: Tensor, candidates_NK: Tensor | None = None) -> Tensor:
    """Whether every correct candidate beats every wrong one by more than rounding; a row without wrong ones counts.

    scores_NK: similarities. correct_NK: bool, the right answers of each row. candidates_NK: bool, what may be chosen at
    all; everything when None. Returns bool [N].
    """
    wrong_NK = ~correct_NK if candidates_NK is None else candidates_NK & ~correct_NK
    worst_N = scores_NK.masked_fill(~correct_NK, torch.inf).amin(1)
    return worst_N > scores_NK.masked_fill(~wrong_NK, -torch.inf).amax(1) + TIE
