"""Aggregators that pool a phrase's similarities to all regions, against loops over all subsets and all weights."""

import itertools
import math
from functools import partial

import numpy as np
import powerset_numpy as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.objectives import powerset_scores
from vlalign.objectives.aggregators.holder import Holder
from vlalign.objectives.aggregators.logmean import LogMean
from vlalign.objectives.aggregators.max import Max
from vlalign.objectives.aggregators.prefix import Prefix

ORDERS = [1.0, 1.5, 2.0, 4.0, 64.0]
RULES = {
    **{f"holder-{q:g}": (Holder(norm_order=q), partial(reference.norm, order=q)) for q in ORDERS},
    **{f"prefix-{p:g}": (Prefix(size_exponent=p), partial(reference.best_by_size, exponent=p)) for p in (0, 0.75, 1)},
    **{f"logmean-{t:g}": (LogMean(temperature=t), partial(reference.log_mean, temperature=t)) for t in (0.01, 0.1, 2)},
    "max": (Max(), max),
}
# Rows of similarities that are hard: all negative, all equal, zeros, one region, ties, and sizes far apart.
HARD = [
    *([-0.5, -0.1, -0.3], [0.3] * 4, [0.0, 0.0], [0.2], [-0.2], [0.4, 0.4, -0.4]),
    *([1e-6, 0.9], [-0.1, 1e-9], [0.0, -0.5]),
]


def scored(rule, rows, real=None):
    """T2R of one phrase per pair and its gradient, fp64; real: how many of the regions are."""
    x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(x.shape[1]).expand(x.shape) < (x.shape[1] if real is None else real)
    pooled = rule.pool((x * mask)[:, None], mask[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(pooled.sum(), x)
    return pooled.detach(), gradient


def naive(name, row):
    rule, pool = RULES[name]
    if isinstance(rule, Holder) and max(row) <= 0:
        return max(row)
    return pool(np.array(row))


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cost=st.sampled_from([0.0, 0.3]))
def test_scores_equal_their_definition(name, seed, cost):
    random = torch.Generator().manual_seed(seed)
    phi, p = (torch.randn(3, size, 6, generator=random, dtype=torch.float64) / 4 for size in (5, 3))
    region_mask, phrase_mask = (torch.rand(3, size, generator=random) < 0.7 for size in (5, 3))
    found = powerset_scores(
        phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator=RULES[name][0], cost=cost
    )
    for i in range(3):
        for c in range(3):
            s = (p[c][phrase_mask[c]] @ phi[i][region_mask[i]].T).numpy()
            r2t, t2r = reference.pooled(s, lambda row: naive(name, row), cost)
            assert found.r2t[i, c].item() == pytest.approx(r2t, rel=1e-9, abs=1e-9)
            assert found.t2r[i, c].item() == pytest.approx(t2r, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("row", HARD, ids=str)
def test_hard_rows_have_their_value_and_a_finite_gradient_with_and_without_padding(name, row):
    value, gradient = scored(RULES[name][0], [row])
    assert value.item() == pytest.approx(naive(name, row), rel=1e-9, abs=1e-9)
    assert torch.isfinite(gradient).all()
    padded, padded_gradient = scored(RULES[name][0], [[*row, math.pi, -math.pi]], real=len(row))
    torch.testing.assert_close(padded, value, atol=0, rtol=0)
    torch.testing.assert_close(padded_gradient[:, : len(row)], gradient, atol=1e-15, rtol=0)
    assert not padded_gradient[:, len(row) :].any()


@pytest.mark.parametrize("name", RULES)
def test_gradients_equal_differences_of_the_definition(name):
    random = np.random.default_rng(0)
    for _ in range(10):
        row, step = random.uniform(-0.5, 0.5, 5), 1e-6
        _, gradient = scored(RULES[name][0], [row.tolist()])
        for index, direction in enumerate(np.eye(5) * step):
            expected = (naive(name, row + direction) - naive(name, row - direction)) / (2 * step)
            assert gradient[0, index].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("q", ORDERS[1:-1])
def test_the_norm_is_the_best_of_all_weights(q):
    random = np.random.default_rng(1)
    for _ in range(5):
        row = random.uniform(-0.5, 0.5, 4)
        value, gradient = scored(Holder(norm_order=q), [row.tolist()])
        assert value.item() == pytest.approx(reference.best_weights(row, q), rel=1e-6)
        if max(row) > 0:
            # The maximiser itself is the gradient: what each region gets.
            weights = gradient[0].numpy()
            assert np.linalg.norm(weights, q / (q - 1)) == pytest.approx(1)
            assert weights @ row == pytest.approx(value.item())


def test_between_the_sum_and_the_best_region():
    """Bounds between orders: the norm falls with q, by a factor of R^(1/q − 1/q') at most; both ends are known."""
    rows = np.random.default_rng(2).uniform(-0.3, 1, (50, 6)).tolist()
    values = {q: scored(Holder(norm_order=q), rows)[0] for q in ORDERS}
    best, added = scored(Max(), rows)[0], scored(Prefix(size_exponent=0.0), rows)[0]
    torch.testing.assert_close(values[1.0], added)
    torch.testing.assert_close(scored(Prefix(size_exponent=1.0), rows)[0], best)
    for low, high in itertools.pairwise(ORDERS):
        assert (values[high] <= values[low] + 1e-12).all()
        assert (values[low] <= 6 ** (1 / low - 1 / high) * values[high] + 1e-12).all()
    assert (values[64.0] <= 6 ** (1 / 64) * best + 1e-12).all()
    assert (values[64.0] >= best - 1e-12).all()
