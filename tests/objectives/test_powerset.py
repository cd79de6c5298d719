import math

import numpy as np
import powerset_numpy as reference
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.objectives import powerset_loss, powerset_scores, triplet_margin
from vlalign.objectives.powerset import Aggregation, all_subsets


def problem(seed, images=4, regions=5, phrases=3, width=6, masked=True):
    random = torch.Generator().manual_seed(seed)
    phi = F.normalize(torch.randn(images, regions, width, generator=random, dtype=torch.float64), dim=-1)
    p = torch.randn(images, phrases, width, generator=random, dtype=torch.float64)
    region_mask = torch.rand(images, regions, generator=random) < (0.7 if masked else 2)
    phrase_mask = torch.rand(images, phrases, generator=random) < (0.7 if masked else 2)
    return phi, p, region_mask, phrase_mask


def pairs(phi, p, region_mask, phrase_mask):
    """(i, c, similarities of the real phrases and regions) of all pairs."""
    for i in range(len(phi)):
        for c in range(len(p)):
            yield i, c, (p[c][phrase_mask[c]] @ phi[i][region_mask[i]].T).numpy()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cost=st.sampled_from([0.0, 0.3]))
def test_exact_equals_enumeration(seed, cost):
    phi, p, region_mask, phrase_mask = problem(seed)
    scores = powerset_scores(phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator="exact", cost=cost)
    for i, c, s in pairs(phi, p, region_mask, phrase_mask):
        r2t, t2r = reference.exact(s, cost)
        assert scores.r2t[i, c].item() == pytest.approx(r2t, abs=1e-12)
        assert scores.t2r[i, c].item() == pytest.approx(t2r, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), tau=st.sampled_from([1e-3, 0.1, 2.0]), zeta=st.sampled_from([0.0, 0.75, 1.0]))
def test_nla_equals_its_definition(seed, tau, zeta):
    phi, p, region_mask, phrase_mask = problem(seed)
    scores = powerset_scores(
        phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator="nla", tau=tau, zeta=zeta
    )
    for i, c, s in pairs(phi, p, region_mask, phrase_mask):
        t2, t1 = reference.nla(s, tau=tau, zeta=zeta)
        assert scores.r2t[i, c].item() == pytest.approx(t2, rel=1e-9, abs=1e-9)
        assert scores.t2r[i, c].item() == pytest.approx(t1, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tau=st.floats(1e-3, 1.0))
def test_bounds_of_the_aggregators(seed, tau):
    phi, p, *_ = problem(seed, masked=False)
    exact = powerset_scores(phi, p, aggregator="exact")
    low, high = (powerset_scores(phi, p, tau=tau, zeta=zeta) for zeta in (0.0, 1.0))
    slack = 1e-9
    excess = high.t2r - exact.t2r
    assert (excess >= -slack).all()
    assert (excess <= tau * phi.shape[1] * math.log(2) + slack).all()
    assert (high.r2t >= exact.r2t - slack).all(), "zeta = 1 is Jensen's upper bound"
    assert (low.r2t - tau * math.log(p.shape[1]) <= exact.r2t + slack).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), aggregator=st.sampled_from(["mean", "max"]))
def test_controls_equal_their_definitions(seed, aggregator):
    phi, p, region_mask, phrase_mask = problem(seed)
    scores = powerset_scores(phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator=aggregator)
    for i, c, s in pairs(phi, p, region_mask, phrase_mask):
        r2t, t2r = reference.controls(s)[aggregator]
        assert scores.r2t[i, c].item() == pytest.approx(r2t, abs=1e-12)
        assert scores.t2r[i, c].item() == pytest.approx(t2r, abs=1e-12)


def test_sampled_is_unbiased():
    phi, p, *_ = problem(3, images=2, masked=False)
    exact = powerset_scores(phi, p, aggregator="exact").r2t
    random = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [powerset_scores(phi, p, aggregator="sampled", samples=4, generator=random).r2t for _ in range(3000)]
    )
    standard_error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - exact).abs() <= 4 * standard_error).all()


@pytest.mark.parametrize("aggregator", ["exact", "nla", "sampled", "mean", "max"])
def test_padding_changes_nothing(aggregator):
    phi, p, *_ = problem(1, masked=False)
    padded_phi, padded_p = F.pad(phi, (0, 0, 0, 3), value=7.0), F.pad(p, (0, 0, 0, 2), value=-3.0)
    region_mask = torch.arange(8).expand(4, 8) < 5
    phrase_mask = torch.arange(5).expand(4, 5) < 3

    def scores(regions, phrases, **masks):
        random = torch.Generator().manual_seed(0)
        return powerset_scores(regions, phrases, aggregator=aggregator, samples=512, generator=random, **masks).total

    plain = scores(phi, p)
    padded = scores(padded_phi, padded_p, region_mask=region_mask, phrase_mask=phrase_mask)
    # Sampling draws other subsets for another number of regions, so it agrees in distribution only.
    tolerance = 0.2 if aggregator == "sampled" else 1e-12
    torch.testing.assert_close(padded, plain, atol=tolerance, rtol=0)


@pytest.mark.parametrize("aggregator", ["exact", "nla", "sampled", "mean", "max"])
def test_rows_without_anything_real_score_zero(aggregator):
    phi, p, *_ = problem(2, masked=False)
    phi, p = phi.requires_grad_(), p.requires_grad_()
    region_mask, phrase_mask = torch.ones(4, 5, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)
    region_mask[1], phrase_mask[2] = False, False
    scores = powerset_scores(phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator=aggregator)
    scores.total.sum().backward()
    # T2's τ·log P remains for an image without regions.
    limit = 1e-3 * math.log(3) + 1e-12 if aggregator == "nla" else 0
    assert scores.total[1].abs().max() <= limit
    assert (scores.total[:, 2] == 0).all()
    assert torch.isfinite(phi.grad).all()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("tau", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_nla_is_stable(tau, scale):
    phi, p, *_ = problem(5, masked=False)
    phi = (phi.float() * scale).requires_grad_()
    scores = powerset_scores(phi, p.float(), tau=tau)
    scores.total.sum().backward()
    assert torch.isfinite(scores.total).all()
    assert torch.isfinite(phi.grad).all()


def test_scores_are_fp32_under_autocast():
    phi, p, *_ = problem(6, masked=False)
    phi, p = phi.float(), p.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = powerset_scores(phi, p).total
    torch.testing.assert_close(inside, powerset_scores(phi, p).total, atol=0, rtol=0)


@pytest.mark.parametrize("aggregator", ["exact", "nla"])
def test_gradients_are_those_of_the_formula(aggregator):
    phi, p, region_mask, phrase_mask = problem(7)
    # max and relu have kinks; random points are not on them.
    assert torch.autograd.gradcheck(
        lambda a, b: (
            powerset_scores(
                a, b, region_mask=region_mask, phrase_mask=phrase_mask, aggregator=aggregator, tau=0.5
            ).total
        ),
        (phi.requires_grad_(), p.requires_grad_()),
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), negatives=st.sampled_from(["hardest", "semi-hard"]), per_region=st.booleans())
def test_mined_loss_equals_the_naive_loss(seed, negatives, per_region):
    phi, p, region_mask, phrase_mask = problem(seed, images=7)
    rule = {"region_mask": region_mask, "phrase_mask": phrase_mask, "tau": 0.05}
    phi.requires_grad_(), p.requires_grad_()
    fast = powerset_loss(phi, p, negatives=negatives, per_region=per_region, tile=3, **rule)
    fast_gradient = torch.autograd.grad(fast, (phi, p))
    scores = powerset_scores(phi, p, **rule).total
    if per_region:
        scores = scores / region_mask.sum(1).clamp_min(1)[:, None]
    naive = triplet_margin(scores, margin=0.2, negatives=negatives)
    assert fast.item() == pytest.approx(naive.item(), abs=1e-9)
    assert naive.item() == pytest.approx(reference.triplet(scores.detach(), margin=0.2, negatives=negatives), abs=1e-9)
    for ours, theirs in zip(fast_gradient, torch.autograd.grad(naive, (phi, p)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_all_subsets_are_distinct():
    rows = all_subsets(6)
    assert rows.shape == (64, 6)
    assert len({tuple(row.tolist()) for row in rows}) == 64


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"aggregator": "median"}, "aggregator"),
        ({"tau": 0.0}, "tau"),
        ({"zeta": 1.5}, "zeta"),
        ({"aggregator": "sampled", "samples": 3}, "samples"),
        ({"region_mask": torch.ones(2, 2, dtype=torch.bool)}, "region_mask"),
        ({"phrase_mask": torch.ones(4, 3)}, "phrase_mask"),
    ],
)
def test_errors_name_the_argument(arguments, named):
    phi, p, *_ = problem(0)
    with pytest.raises(ValueError, match=named):
        powerset_scores(phi, p, **arguments)


def test_exact_refuses_many_regions():
    with pytest.raises(ValueError, match="at most 16"):
        powerset_scores(torch.zeros(1, 17, 4), torch.zeros(1, 2, 4), aggregator="exact")


def test_the_best_subset_costs():
    similarity = torch.tensor([[[0.5, 0.2, -0.1]]], dtype=torch.float64)
    masks = torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    exact = Aggregation("exact", cost=0.3, subsets_SR=all_subsets(3).double())(similarity, *masks)
    np.testing.assert_allclose(exact.t2r, 0.2)
