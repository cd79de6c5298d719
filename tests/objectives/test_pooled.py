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
    **{f"logmean-{t:g}": (LogMean(softness=t), partial(reference.log_mean, softness=t)) for t in (0.01, 0.1, 2)},
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


ORDERS_CP = torch.tensor([[1.5, 2.0, 8.0], [4.0, 3.0, 1.1]], dtype=torch.float64)


def learnt_problem():
    random = torch.Generator().manual_seed(3)
    phi, p = (torch.randn(*shape, generator=random, dtype=torch.float64) / 4 for shape in ((4, 5, 6), (2, 3, 6)))
    masks = {"region_mask": torch.rand(4, 5, generator=random) < 0.8, "phrase_mask": torch.ones(2, 3).bool()}
    masks["phrase_mask"][1, 2] = False
    return phi, p, masks


@pytest.mark.parametrize("tile", [1, 4])
def test_an_order_of_every_phrase(tile):
    phi, p, masks = learnt_problem()
    orders = ORDERS_CP.clone().requires_grad_()
    found = powerset_scores(phi, p, aggregator="holder", norm_order=orders, tile=tile, **masks).t2r
    real = masks["region_mask"].sum(1)
    for caption, phrase in masks["phrase_mask"].nonzero().tolist():
        # The scores of one phrase at a time, with its order as a number.
        alone = powerset_scores(
            phi,
            p[caption, phrase][None, None],
            region_mask=masks["region_mask"],
            aggregator=Holder(norm_order=ORDERS_CP[caption, phrase].item()),
        ).t2r[:, 0]
        share = masks["phrase_mask"][caption].sum()
        found = found - torch.nn.functional.one_hot(torch.tensor(caption), 2) * (alone / share)[:, None]
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)
    assert (real > 0).all()


@pytest.mark.parametrize("tile", [1, 4])
@pytest.mark.parametrize("orders", [torch.tensor(2.5, dtype=torch.float64), ORDERS_CP], ids=["one", "each"])
def test_a_learnt_order_has_a_gradient(tile, orders):
    phi, p, masks = learnt_problem()

    def score(norm_order):
        rule = {"aggregator": "holder", "norm_order": norm_order, "cost": torch.tensor(0.05), "tile": tile}
        return powerset_scores(phi, p, **rule, **masks).total

    assert torch.autograd.gradcheck(score, orders.clone().requires_grad_())


def test_orders_of_other_phrases_are_refused():
    phi, p, masks = learnt_problem()
    with pytest.raises(ValueError, match=r"norm_order has shape \(3, 2\); it must be a scalar or C P, .*\(2, 3\)"):
        powerset_scores(phi, p, aggregator="holder", norm_order=ORDERS_CP.reshape(3, 2), **masks)


@pytest.mark.parametrize("aggregator", ["max", "holder", "prefix", "logmean"])
def test_the_powersets_own_regions_to_text_beside_a_pooled_text_to_regions(aggregator):
    phi, p, masks = learnt_problem()
    ours, plain, published = (
        powerset_scores(phi, p, aggregator=name, generator=torch.Generator().manual_seed(5), **settings, **masks)
        for name, settings in ((aggregator, {"of_subsets": 8}), (aggregator, {}), ("sampled", {"samples": 8}))
    )
    torch.testing.assert_close(ours.t2r, plain.t2r, atol=0, rtol=0)
    torch.testing.assert_close(ours.r2t, published.r2t, atol=0, rtol=0)
    assert not torch.allclose(ours.r2t, plain.r2t)


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
