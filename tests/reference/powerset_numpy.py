"""The powerset scores written out with loops, from the definitions alone."""

import decimal
import itertools

import numpy as np
import scipy.optimize


def subsets(count):
    return itertools.product((0, 1), repeat=count)


def exact(s_PR, cost=0.0, *, empty=True):
    """(R2T, T2R) of one image-caption pair by enumeration of the subsets, with the empty one or without."""
    s = np.asarray(s_PR, float) - cost
    if s.shape[0] == 0 or (s.shape[1] == 0 and not empty):
        return 0.0, 0.0
    chosen = [subset for subset in subsets(s.shape[1]) if empty or any(subset)]
    scores = np.array([[sum(row[r] for r in range(s.shape[1]) if subset[r]) for subset in chosen] for row in s])
    return scores.max(0).mean(), scores.max(1).mean()


def nla(s_PR, *, tau, zeta, cost=0.0):
    """(T2, T1) of one pair, term by term."""
    s = np.asarray(s_PR, float) - cost
    if s.size == 0:
        return 0.0, 0.0
    t1 = np.mean([sum(tau * np.logaddexp(0, x / tau) for x in row) for row in s])
    inner = []
    for row in s:
        halves = row / tau / 2
        inner.append(sum(h + zeta * (np.logaddexp(h, -h) - np.log(2)) for h in halves))
    return tau * np.logaddexp.reduce(inner), t1


def smooth_t2r(s_PR, *, tau, empty):
    """Mean over phrases of τ·log Σ_A exp(Σ_{r ∈ A} s / τ), subset by subset."""
    s = np.asarray(s_PR, float)
    if s.shape[0] == 0 or s.shape[1] == 0:
        return 0.0
    chosen = [np.array(subset) for subset in subsets(s.shape[1]) if empty or any(subset)]
    return np.mean([tau * np.logaddexp.reduce([(row * subset).sum() / tau for subset in chosen]) for row in s])


def controls(s_PR):
    """(R2T, T2R) without subsets: of the mean similarity, then of the single best partner; 0 without a real pair."""
    s = np.asarray(s_PR, float)
    if s.size == 0:
        return {"mean": (0.0, 0.0), "max": (0.0, 0.0)}
    total = np.mean([sum(row) for row in s])
    best_phrase = sum(max(row[r] for row in s) for r in range(s.shape[1]))
    best_region = np.mean([s.shape[1] * max(row) for row in s])
    return {"mean": (total / 2, total), "max": (best_phrase, best_region)}


def pooled(s_PR, pool, cost=0.0):
    """(R2T, T2R) of one pair: the sum of every region's best phrase, and R times the mean over pooled phrases."""
    s = np.asarray(s_PR, float) - cost
    if s.size == 0:
        return 0.0, 0.0
    return sum(max(row[r] for row in s) for r in range(s.shape[1])), s.shape[1] * np.mean([pool(row) for row in s])


def best_by_size(row, exponent):
    """The largest Σ_{r ∈ A} x_r / |A|^p over the subsets that are not empty, one by one."""
    chosen = (np.array(subset) for subset in subsets(len(row)) if any(subset))
    return max((row * subset).sum() / subset.sum() ** exponent for subset in chosen)


def norm(row, order):
    """‖relu(x)‖_q in decimal numbers, whose powers do not underflow."""
    similar = [decimal.Decimal(float(x)) for x in row if x > 0]
    return float(sum(x ** decimal.Decimal(order) for x in similar) ** (1 / decimal.Decimal(order)))


def best_weights(row, order):
    """The largest Σ w x over w ≥ 0 with ‖w‖_q' = 1, found by a numerical maximiser; none is above 0: the largest x."""
    if max(row) <= 0:
        return max(row)
    dual = np.inf if order == 1 else order / (order - 1)
    # Along directions v ≥ 0, whose length does not matter.
    found = scipy.optimize.minimize(
        lambda v: -(np.abs(v) @ row) / np.linalg.norm(np.abs(v), dual),
        np.maximum(row, 1e-3),
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 20_000, "maxfev": 20_000, "adaptive": True},
    )
    return -found.fun


def log_mean(row, softness):
    """t·log of the mean of exp(x / t)."""
    return softness * np.log(np.mean([np.exp(x / softness) for x in row]))


def triplet(scores, *, margin, negatives):
    """Mean over rows plus mean over columns, negatives searched one by one."""
    scores = np.asarray(scores, float)
    total = 0.0
    for matrix in (scores, scores.T):
        losses = []
        for i, row in enumerate(matrix):
            others = [row[j] for j in range(len(row)) if j != i]
            if negatives == "semi-hard":
                below = [value for value in others if value < row[i]]
                negative = max(below) if below else min(others)
            else:
                negative = max(others)
            losses.append(max(0.0, margin + negative - row[i]))
        total += np.mean(losses)
    return total


def cs_divergence(x, y, *, sigma, unbiased=False):
    """D_CS by double loops."""

    def mean_kernel(a, b, skip):
        values = [
            np.exp(-((p - q) ** 2).sum() / (2 * sigma**2))
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (skip and i == j)
        ]
        return np.mean(values)

    return (
        np.log(mean_kernel(x, x, unbiased)) + np.log(mean_kernel(y, y, unbiased)) - 2 * np.log(mean_kernel(x, y, False))
    )
