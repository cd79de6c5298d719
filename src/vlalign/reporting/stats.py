"""Spread over seeds and paired differences, with the words that they allow."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

# Of the intervals.
LEVEL = 0.95
ABOVE = "above"
BELOW = "below"
NOISE = "not distinguishable from noise"
ONE_SEED = "one seed: no interval"


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over seeds; `sd` is None for a single seed."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences; `low` and `high` bound its Student-t interval and are None for a single pair."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def verdict(self) -> str:
        """ABOVE or BELOW if the interval excludes zero, NOISE if it contains it, ONE_SEED if there is none."""
        if self.low is None or self.high is None:
            return ONE_SEED
        if self.low > 0:
            return ABOVE
        return BELOW if self.high < 0 else NOISE


def spread(values: Iterable[float]) -> Spread:
    """Summarise at least one value."""
    values = list(values)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def half_width(values: Sequence[float]) -> float | None:
    """Half of the Student-t interval of the mean, or None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], *, level: float = LEVEL
) -> Difference | None:
    """Difference `values - reference` over the seeds that both have; None when they share no seed.

    Pairing removes what a seed gives to both (initial weights, order of samples), so the interval is that of the
    differences and not of the two means.
    """
    # A second of import, which the many commands that call no test are spared.
    from scipy.stats import ttest_rel

    seeds = sorted(values.keys() & reference.keys())
    differences = [values[seed] - reference[seed] for seed in seeds]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    if len(seeds) < 2:
        return Difference(mean, None, None, len(seeds))
    if len(set(differences)) == 1:  # no spread, of which scipy makes no interval
        return Difference(mean, mean, mean, len(seeds))
    ours, theirs = zip(*((values[seed], reference[seed]) for seed in seeds), strict=True)
    interval = ttest_rel(ours, theirs).confidence_interval(level)
    return Difference(mean, float(interval.low), float(interval.high), len(seeds))


def p_value(values: Mapping[int, float], reference: Mapping[int, float]) -> float:
    """Of the two-sided paired t-test over the seeds that both have, two at least; 0 or 1 where nothing spreads."""
    from scipy.stats import ttest_rel

    seeds = sorted(values.keys() & reference.keys())
    differences = {values[seed] - reference[seed] for seed in seeds}
    if len(differences) == 1:
        return float(differences == {0.0})
    ours, theirs = zip(*((values[seed], reference[seed]) for seed in seeds), strict=True)
    return float(ttest_rel(ours, theirs).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down procedure: below α, any true null among them is rejected with a
    probability of α at most (Holm, 1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[index]))
        adjusted[index] = largest
    return adjusted
