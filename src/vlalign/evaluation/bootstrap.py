"""What is known of a mean over items, and of the difference between two models on the same items.

An item is one query, image or phrase that was scored. A metric is the mean over items, or, with blocks such as classes,
the mean of the blocks' means. Suffixes: N items.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL, RESAMPLES = 0.95, 2000
# Draws that are held at once.
MOST = 20_000_000
Scores = np.ndarray[Any, np.dtype[Any]]


def mean(scores_N: Scores, blocks_N: Scores | None = None) -> float:
    """The mean over items; with blocks the mean of their means."""
    return float(np.mean([part.mean(dtype=np.float64) for part in _parts(scores_N, blocks_N)]))


def interval(scores_N: Scores, blocks_N: Scores | None = None) -> tuple[float, float]:
    """The 95 % percentile interval of `mean` by the bootstrap over items, within each block."""
    low, high = np.quantile(resampled(scores_N, blocks_N), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(scores_N: Scores, blocks_N: Scores | None = None) -> Scores:
    """`mean` of 2,000 bootstrap samples. How often each value is drawn is multinomial, so that no item is copied."""
    draw, means = np.random.default_rng(0), np.zeros(RESAMPLES)
    parts = list(_parts(scores_N, blocks_N))
    for part in parts:
        values, counts = np.unique(part.astype(np.float64), return_counts=True)
        step = max(1, MOST // len(values))
        for start in range(0, RESAMPLES, step):
            rows = means[start : start + step]
            rows += draw.multinomial(len(part), counts / len(part), size=len(rows)) @ values / len(part)
    return means / len(parts)


def _parts(scores_N: Scores, blocks_N: Scores | None) -> Iterator[Scores]:
    if blocks_N is None:
        yield scores_N
        return
    order = np.argsort(blocks_N, kind="stable")
    yield from np.split(scores_N[order], np.flatnonzero(np.diff(blocks_N[order])) + 1)


@dataclass(frozen=True)
class Paired:
    """One model minus another on the same items, in percentage points: the difference, its 95 % interval, and the
    two-sided p-value, by `test`.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    n: int


def paired(ours_N: Scores, theirs_N: Scores, blocks_N: Scores | None = None) -> Paired:
    """The difference of two means over the same items, as percentage points of scores 0-1.

    Items that are right or wrong are tested by McNemar's exact test, others, and means over blocks, by the paired
    bootstrap, whose smallest p-value is 1 / 1,000.
    """
    differences = ours_N.astype(np.float64) - theirs_N.astype(np.float64)
    low, high = interval(differences, blocks_N)
    values = (100 * mean(differences, blocks_N), 100 * low, 100 * high)
    # Imported here, as it takes a second that those who only measure need not wait for.
    from scipy.stats import binomtest

    if blocks_N is None and set(np.unique(differences)) <= {-1.0, 0.0, 1.0}:
        better, worse = int((differences > 0).sum()), int((differences < 0).sum())
        p = binomtest(better, better + worse).pvalue if better + worse else 1.0
        return Paired(*values, float(p), "McNemar", len(differences))
    means = resampled(differences, blocks_N)
    tail = min((means <= 0).sum(), (means >= 0).sum()) / RESAMPLES
    return Paired(*values, float(min(1.0, max(2 * tail, 2 / RESAMPLES))), "paired bootstrap", len(differences))


def holm(p_values: Iterable[float]) -> list[float]:
    """The same p-values adjusted for all of them by Holm's step-down method."""
    values = list(p_values)
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
