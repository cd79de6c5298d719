import math

import numpy as np
import powerset_numpy as reference
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.objectives import (
    batch_cost,
    known_aggregators,
    powerset_loss,
    powerset_scores,
    r2t_bounds,
    t1_bound,
    triplet_margin,
)
from vlalign.objectives.aggregators.exact import Exact
from vlalign.objectives.subsets import all_subsets


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
@given(seed=st.integers(0, 10_000), tau=st.floats(1e-3, 1.0), cost=st.sampled_from([0.0, 0.3]))
def test_bounds_of_the_aggregators(seed, tau, cost):
    phi, p, region_mask, phrase_mask = problem(seed)
    masks = {"region_mask": region_mask, "phrase_mask": phrase_mask, "cost": cost}
    exact, nla = (powerset_scores(phi, p, aggregator=name, tau=tau, **masks) for name in ("exact", "nla"))
    similarity = torch.einsum("ird,cpd->icpr", phi, p)
    low, high = r2t_bounds(similarity, region_mask[:, None], phrase_mask[None], tau=tau, cost=cost)
    slack, excess = 1e-9, nla.t2r - exact.t2r
    assert (excess >= -slack).all()
    assert (excess <= t1_bound(region_mask.sum(1), tau)[:, None] + slack).all()
    assert (low <= exact.r2t + slack).all()
    assert (exact.r2t <= high + slack).all()
    others = powerset_scores(phi, p, aggregator="exact", empty_subset=False, **masks).r2t
    rule = {"tau": tau, "cost": cost, "empty_subset": False}
    low_of_others, high_of_others = r2t_bounds(similarity, region_mask[:, None], phrase_mask[None], **rule)
    assert (low_of_others <= others + slack).all()
    assert (others <= high_of_others + slack).all()
    assert (high - low <= tau * math.log(3) + phi.shape[1] * p.norm(dim=-1).max() + cost * 5).all(), "not vacuous"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cost=st.sampled_from([0.0, 0.3, 3.0]), tau=st.sampled_from([1e-3, 0.1, 2.0]))
def test_without_the_empty_subset(seed, cost, tau):
    phi, p, region_mask, phrase_mask = problem(seed)
    rule = {"region_mask": region_mask, "phrase_mask": phrase_mask, "cost": cost, "tau": tau, "empty_subset": False}
    exact, nla = (powerset_scores(phi, p, aggregator=name, **rule) for name in ("exact", "nla"))
    whole = powerset_scores(phi, p, **{**rule, "empty_subset": True})
    for i, c, s in pairs(phi, p, region_mask, phrase_mask):
        r2t, t2r = reference.exact(s, cost, empty=False)
        assert exact.r2t[i, c].item() == pytest.approx(r2t, abs=1e-12)
        assert exact.t2r[i, c].item() == pytest.approx(t2r, abs=1e-12)
        smooth = reference.smooth_t2r(s - cost, tau=tau, empty=False)
        assert nla.t2r[i, c].item() == pytest.approx(smooth, rel=1e-9, abs=1e-9)
        regions = s.shape[1]
        share = (2**regions - 1) / 2**regions or 1
        assert nla.r2t[i, c].item() * share == pytest.approx(whole.r2t[i, c].item(), rel=1e-9, abs=1e-9)


def test_without_the_empty_subset_far_below_zero():
    """Every region costs more than it brings: the least bad one is chosen, with a finite gradient."""
    phi, p, *_ = problem(4, masked=False)
    phi = phi.float().requires_grad_()
    scores = powerset_scores(phi, p.float(), cost=50.0, tau=0.01, empty_subset=False)
    expected = (torch.einsum("ird,cpd->icpr", phi, p.float()) - 50).amax(-1).mean(-1)
    torch.testing.assert_close(scores.t2r, expected, atol=0.03, rtol=0)
    (gradient,) = torch.autograd.grad(scores.t2r.sum(), phi)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("aggregator", known_aggregators())
def test_tiles_change_nothing_but_memory(aggregator):
    phi, p, region_mask, phrase_mask = problem(8, images=12)
    phi.requires_grad_(), p.requires_grad_()

    def run(tile):
        def score():
            return powerset_scores(
                phi,
                p,
                region_mask=region_mask,
                phrase_mask=phrase_mask,
                aggregator=aggregator,
                tau=0.05,
                generator=torch.Generator().manual_seed(0),
                tile=tile,
            ).total

        scores = score()
        loss = (3 * scores).logsumexp(1).sum() - scores.diagonal().sum()
        return loss.detach(), torch.autograd.grad(loss, (phi, p)), saved_bytes(score)

    value, gradients, memory = run(12)
    for tile in (1, 5):
        tiled_value, tiled_gradients, tiled_memory = run(tile)
        torch.testing.assert_close(tiled_value, value, atol=1e-12, rtol=0)
        for ours, theirs in zip(tiled_gradients, gradients, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
        assert tiled_memory < (1.0 if aggregator == "mean" else 0.5) * memory, "the mean keeps little in any case"


def test_a_learnt_cost_has_a_gradient():
    phi, p, region_mask, phrase_mask = problem(9)
    cost = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    for tile in (1, 4):
        assert torch.autograd.gradcheck(
            lambda b, tile=tile: (
                powerset_scores(
                    phi, p, region_mask=region_mask, phrase_mask=phrase_mask, tau=0.5, cost=b, tile=tile
                ).total
            ),
            cost,
        )


def test_the_batch_sets_its_cost():
    phi, p, region_mask, phrase_mask = problem(10)
    own = [s.flatten() for i, c, s in pairs(phi, p, region_mask, phrase_mask) if i == c]
    expected = np.concatenate(own).mean()
    masks = {"region_mask": region_mask, "phrase_mask": phrase_mask}
    assert batch_cost(phi, p, **masks).item() == pytest.approx(expected)
    torch.testing.assert_close(
        powerset_scores(phi, p, cost="batch", **masks).total, powerset_scores(phi, p, cost=expected, **masks).total
    )
    with pytest.raises(ValueError, match="need pairs"):
        powerset_scores(phi[:2], p, cost="batch")


@pytest.mark.parametrize("seed", range(5))
def test_calibration_meets_the_exact_mean(seed):
    phi, p, *_ = problem(seed, images=24, regions=10, phrases=12, width=24, masked=False)
    p = F.normalize(p, dim=-1)
    exact = powerset_scores(phi, p, aggregator="exact").r2t.mean()
    calibrated = powerset_scores(
        phi, p, aggregator="calibrated", samples=32, generator=torch.Generator().manual_seed(seed)
    )
    published = powerset_scores(phi, p, zeta=0.75).r2t.mean()
    assert abs(calibrated.r2t.mean() / exact - 1) < 0.02
    assert abs(published / exact - 1) > 0.2, "the published zeta is far off"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), aggregator=st.sampled_from(["mean", "max"]), cost=st.sampled_from([0.0, 0.3]))
def test_controls_equal_their_definitions(seed, aggregator, cost):
    phi, p, region_mask, phrase_mask = problem(seed)
    masks = {"region_mask": region_mask, "phrase_mask": phrase_mask}
    scores = powerset_scores(phi, p, aggregator=aggregator, cost=cost, **masks)
    for i, c, s in pairs(phi, p, region_mask, phrase_mask):
        r2t, t2r = reference.controls(s - cost)[aggregator]
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


@pytest.mark.parametrize("aggregator", known_aggregators())
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
    tolerance = 0.2 if aggregator in ("sampled", "calibrated") else 1e-12
    torch.testing.assert_close(padded, plain, atol=tolerance, rtol=0)


@pytest.mark.parametrize("aggregator", known_aggregators())
def test_rows_without_anything_real_score_zero(aggregator):
    phi, p, *_ = problem(2, masked=False)
    phi, p = phi.requires_grad_(), p.requires_grad_()
    region_mask, phrase_mask = torch.ones(4, 5, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)
    region_mask[1], phrase_mask[2] = False, False
    scores = powerset_scores(phi, p, region_mask=region_mask, phrase_mask=phrase_mask, aggregator=aggregator)
    scores.total.sum().backward()
    assert (scores.total[1] == 0).all(), "not T2's τ·log P either"
    assert (scores.total[:, 2] == 0).all()
    assert torch.isfinite(phi.grad).all()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("tau", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("rule", [{}, {"empty_subset": False}, {"aggregator": "calibrated"}, {"activation": "relu"}])
def test_scores_are_stable(tau, scale, rule):
    phi, p, region_mask, phrase_mask = problem(5)
    phi, p = phi * scale, p.requires_grad_()
    masks = {"region_mask": region_mask, "phrase_mask": phrase_mask}
    wanted = powerset_scores(phi, p, tau=tau, generator=torch.Generator().manual_seed(0), **masks, **rule)
    phi, random = phi.float().requires_grad_(), torch.Generator().manual_seed(0)
    scores = powerset_scores(phi, p.float(), tau=tau, generator=random, **masks, **rule)
    scores.total.sum().backward()
    torch.testing.assert_close(scores.total.double(), wanted.total, rtol=1e-4, atol=1e-5 * max(scale, tau))
    assert torch.isfinite(phi.grad).all()
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("tile", [1, 4])
def test_scores_and_gradients_are_fp32_under_autocast(tile):
    phi, p, *_ = problem(6, masked=False)
    phi, p = phi.float().requires_grad_(), p.float().requires_grad_()

    def run(autocast):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            total = powerset_scores(phi, p, tile=tile).total
        return total, *torch.autograd.grad(total.sum(), (phi, p))

    for ours, theirs in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("aggregator", known_aggregators())
@pytest.mark.parametrize("loss", ["triplet", "cross-entropy"])
def test_compiled_equals_eager(aggregator, loss):
    phi, p, region_mask, phrase_mask = problem(11, images=6)
    phi.requires_grad_(), p.requires_grad_()
    rule = {"aggregator": aggregator, "loss": loss, "tau": 0.1, "cost": 0.1, "tile": 3}

    def run(a, b):
        random = torch.Generator().manual_seed(0)
        return powerset_loss(a, b, region_mask=region_mask, phrase_mask=phrase_mask, generator=random, **rule)

    def value_and_gradients(function):
        value = function(phi, p)
        return value.detach(), *torch.autograd.grad(value, (phi, p))

    compiled = value_and_gradients(torch.compile(run, backend="aot_eager"))
    for ours, theirs in zip(compiled, value_and_gradients(run), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


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


def complete(scores, region_mask, phrase_mask, *, per_region=False):
    """The scores of the pairs that have a real region and a real phrase."""
    if per_region:
        scores = scores / region_mask.sum(1).clamp_min(1)[:, None]
    kept = region_mask.any(1) & phrase_mask.any(1)
    return scores[kept][:, kept]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), negatives=st.sampled_from(["hardest", "semi-hard"]), per_region=st.booleans())
def test_mined_loss_equals_the_naive_loss(seed, negatives, per_region):
    phi, p, region_mask, phrase_mask = problem(seed, images=7)
    rule = {"region_mask": region_mask, "phrase_mask": phrase_mask, "tau": 0.05}
    phi.requires_grad_(), p.requires_grad_()
    fast = powerset_loss(phi, p, negatives=negatives, per_region=per_region, tile=3, **rule)
    fast_gradient = torch.autograd.grad(fast, (phi, p))
    scores = complete(powerset_scores(phi, p, **rule).total, region_mask, phrase_mask, per_region=per_region)
    naive = triplet_margin(scores, margin=0.2, negatives=negatives)
    assert fast.item() == pytest.approx(naive.item(), abs=1e-9)
    assert naive.item() == pytest.approx(reference.triplet(scores.detach(), margin=0.2, negatives=negatives), abs=1e-9)
    for ours, theirs in zip(fast_gradient, torch.autograd.grad(naive, (phi, p)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    direction=st.sampled_from(["both", "r2t", "t2r"]),
    per_region=st.booleans(),
    tile=st.sampled_from([2, 100]),
)
def test_cross_entropy_equals_the_naive_loss(seed, direction, per_region, tile):
    phi, p, region_mask, phrase_mask = problem(seed, images=5)
    rule = {"region_mask": region_mask, "phrase_mask": phrase_mask, "tau": 0.05, "empty_subset": False}
    phi.requires_grad_(), p.requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    fast = powerset_loss(
        phi, p, loss="cross-entropy", scale=scale, direction=direction, per_region=per_region, tile=tile, **rule
    )
    fast_gradient = torch.autograd.grad(fast, (phi, p, scale))
    scores = complete(powerset_scores(phi, p, **rule).of(direction), region_mask, phrase_mask, per_region=per_region)
    target = torch.arange(len(scores))
    naive = (F.cross_entropy(scale * scores, target) + F.cross_entropy(scale * scores.T, target)) / 2
    assert fast.item() == pytest.approx(naive.item(), abs=1e-9)
    for ours, theirs in zip(fast_gradient, torch.autograd.grad(naive, (phi, p, scale)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("loss", ["triplet", "cross-entropy"])
def test_a_pair_with_nothing_to_align_is_left_out(loss):
    phi, p, *_ = problem(13, images=6, masked=False)
    region_mask, phrase_mask = (torch.ones(x.shape[:2], dtype=torch.bool) for x in (phi, p))
    region_mask[2], phrase_mask[4] = False, False
    kept = torch.tensor([0, 1, 3, 5])
    found = powerset_loss(phi, p, loss=loss, cost=0.3, region_mask=region_mask, phrase_mask=phrase_mask)
    assert found.item() == pytest.approx(powerset_loss(phi[kept], p[kept], loss=loss, cost=0.3).item(), abs=1e-12)


@pytest.mark.parametrize("loss", ["triplet", "cross-entropy"])
@pytest.mark.parametrize("pairs", [0, 1])
def test_without_a_negative_there_is_nothing_to_learn(loss, pairs):
    phi, p, *_ = problem(14, images=2, masked=False)
    phi, p = phi[:pairs].requires_grad_(), p[:pairs].requires_grad_()
    value = powerset_loss(phi, p, loss=loss)
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(value, (phi, p)))


@pytest.mark.parametrize("aggregator", known_aggregators())
@pytest.mark.parametrize("shape", [(3, 0, 2, 4), (3, 2, 2, 0), (0, 2, 3, 4), (3, 2, 0, 4)], ids=str)
def test_empty_dimensions_score_zero(aggregator, shape):
    images, regions, captions, phrases = shape
    phi, p = torch.randn(images, regions, 5), torch.randn(captions, phrases, 5)
    scores = powerset_scores(phi, p, aggregator=aggregator)
    assert scores.total.shape == (images, captions)
    assert (scores.total == 0).all()


def test_padding_may_hold_anything():
    phi, p, region_mask, phrase_mask = problem(15)
    masks = {"region_mask": region_mask, "phrase_mask": phrase_mask}
    wanted = powerset_scores(phi, p, cost="batch", **masks).total
    phi, p = phi.masked_fill(~region_mask[..., None], torch.nan), p.masked_fill(~phrase_mask[..., None], torch.inf)
    phi.requires_grad_()
    found = powerset_scores(phi, p, cost="batch", **masks).total
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    found.sum().backward()
    assert (phi.grad[~region_mask] == 0).all()


def test_the_more_precise_type_wins():
    phi, p, *_ = problem(16, masked=False)
    cost = torch.tensor([0.1], dtype=torch.float64)
    for tile in (2, 8):
        scores = powerset_scores(phi, p.half(), tile=tile).total
        assert scores.dtype == torch.float64
        assert powerset_scores(phi.float(), p.half(), cost=cost, tile=tile).total.dtype == torch.float32
    torch.testing.assert_close(scores, powerset_scores(phi, p.half().double()).total)


def test_second_derivatives_are_refused_where_they_would_be_missing():
    phi, p, *_ = problem(17, masked=False)
    phi.requires_grad_()
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(powerset_scores(phi, p, tile=2).total.sum(), phi, create_graph=True)


def saved_bytes(function):
    """What the graph of `function` keeps for its backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        function()
    return sum(kept)


@pytest.mark.parametrize("loss", ["triplet", "cross-entropy"])
def test_the_graph_does_not_hold_all_pairs(loss):
    """Twice as many pairs: the naive graph is four times as large, ours grows with the features and one I·C matrix."""

    def ours(images):
        phi, p, *_ = problem(12, images=images, width=4, masked=False)
        return saved_bytes(lambda: powerset_loss(phi.requires_grad_(), p.requires_grad_(), loss=loss, tile=4))

    def naive(images):
        phi, p, *_ = problem(12, images=images, width=4, masked=False)
        return saved_bytes(lambda: triplet_margin(powerset_scores(phi.requires_grad_(), p).total, margin=0.2))

    assert naive(96) > 3.5 * naive(48)
    assert ours(96) < 0.25 * naive(96)
    if loss == "triplet":
        assert ours(96) < 2.5 * ours(48)


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
        ({"zeta": torch.tensor(0.5)}, "zeta"),
        ({"tau": torch.tensor(0.5)}, "tau"),
        ({"tau": math.nan}, "tau"),
        ({"tile": 0}, "tile"),
        ({"tile": -1}, "tile"),
        ({"cost": "median"}, "cost"),
        ({"cost": torch.zeros(2)}, "cost"),
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
    exact = Exact(cost=0.3, subsets_SR=all_subsets(3).double())(similarity, *masks)
    np.testing.assert_allclose(exact.t2r, 0.2)
