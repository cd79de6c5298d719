import powerset_numpy as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.objectives import cs_divergence, gaussian_kl, mmd, sliced_wasserstein, token_cs_divergence
from vlalign.objectives.kernels import squared_distances


def clouds(seed, n=9, m=7, shift=0.5):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=random, dtype=torch.float64)
    return x, torch.randn(m, 4, generator=random, dtype=torch.float64) + shift


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sigma=st.sampled_from([0.3, 1.0, 5.0]), unbiased=st.booleans())
def test_equals_the_double_loop(seed, sigma, unbiased):
    x, y = clouds(seed)
    expected = reference.cs_divergence(x.numpy(), y.numpy(), sigma=sigma, unbiased=unbiased)
    assert cs_divergence(x, y, sigma=sigma, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_is_a_divergence(seed):
    x, y = clouds(seed)
    assert cs_divergence(x, y, sigma=1.0).item() >= 0
    assert cs_divergence(x, y, sigma=1.0).item() == pytest.approx(cs_divergence(y, x, sigma=1.0).item())
    assert cs_divergence(x, x[torch.randperm(len(x))], sigma=1.0).item() == pytest.approx(0, abs=1e-12)


def dense(x, y, *, sigma, unbiased):
    """The naive twin: whole kernel matrices under autograd."""

    def log_mean(a, b, skip):
        widths = torch.tensor(sigma, dtype=a.dtype).square()
        exponents = squared_distances(a, b)[..., None] / (-2 * widths)
        if skip:
            exponents = exponents.masked_fill(torch.eye(len(a), dtype=torch.bool)[..., None], -torch.inf)
        count = (len(a) * len(b) - len(a) * skip) * len(widths)
        return torch.logsumexp(exponents.flatten(), 0) - torch.tensor(count, dtype=a.dtype).log()

    return log_mean(x, x, unbiased) + log_mean(y, y, unbiased) - 2 * log_mean(x, y, False)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sigma=st.sampled_from([(0.3,), (1.0,), (0.1, 0.5, 2.0)]),
    unbiased=st.booleans(),
    tile=st.sampled_from([1, 4, 100]),
)
def test_tiles_equal_the_whole(seed, sigma, unbiased, tile):
    x, y = (points.requires_grad_() for points in clouds(seed))
    whole = dense(x, y, sigma=sigma, unbiased=unbiased)
    tiled = cs_divergence(x, y, sigma=sigma, unbiased=unbiased, tile=tile)
    assert tiled.item() == pytest.approx(whole.item(), rel=1e-9, abs=1e-9)
    for ours, theirs in zip(
        torch.autograd.grad(3 * tiled, (x, y)), torch.autograd.grad(3 * whole, (x, y)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_nothing_of_the_kernel_matrices_is_kept():
    x, y = (points.requires_grad_() for points in clouds(5, n=300, m=200))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        cs_divergence(x, y, sigma=1.0, tile=16)
    assert sum(kept) == x.nbytes + y.nbytes, "the two gradients, and no matrix of 300 x 200"


def test_large_offsets_do_not_cancel_in_fp32():
    x, y = clouds(6)
    near, far = (cs_divergence((x + shift).float(), (y + shift).float(), sigma=1.0).item() for shift in (0, 1000))
    assert far == pytest.approx(near, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), unbiased=st.booleans(), tile=st.sampled_from([1, 2, 100]))
def test_tokens_equal_a_loop_over_pairs(seed, unbiased, tile):
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(5, n, 4, generator=random, dtype=torch.float64) for n in (6, 5))
    x_mask, y_mask = (torch.rand(5, n, generator=random) < 0.6 for n in (6, 5))
    x_mask[0], y_mask[0], y_mask[1] = True, True, False
    x[~x_mask] = torch.nan
    least = 2 if unbiased else 1
    expected = [
        reference.cs_divergence(a[p].numpy(), b[q].numpy(), sigma=0.7, unbiased=unbiased)
        for a, b, p, q in zip(x, y, x_mask, y_mask, strict=True)
        if p.sum() >= least and q.sum() >= least
    ]
    masks = {"x_mask": x_mask, "y_mask": y_mask}
    value = token_cs_divergence(x, y, sigma=0.7, unbiased=unbiased, tile=tile, **masks)
    assert value.item() == pytest.approx(sum(expected) / len(expected), rel=1e-9, abs=1e-9)
    x.requires_grad_(), y.requires_grad_()
    gradient, _ = torch.autograd.grad(token_cs_divergence(x, y, sigma=0.7, tile=tile, **masks), (x, y))
    assert torch.isfinite(gradient).all()
    assert (gradient[~x_mask] == 0).all()


def test_tokens_without_any_pair_are_zero():
    x, y = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4)
    value = token_cs_divergence(x, y, y_mask=torch.zeros(2, 5, dtype=torch.bool))
    assert value.item() == 0
    value.backward()
    assert (x.grad == 0).all()


def test_token_gradients():
    random = torch.Generator().manual_seed(7)
    x, y = (torch.randn(3, n, 4, generator=random, dtype=torch.float64, requires_grad=True) for n in (6, 5))
    assert torch.autograd.gradcheck(lambda a, b: token_cs_divergence(a, b, sigma=(0.5, 1.0), unbiased=True), (x, y))


def test_gradients():
    x, y = (points.requires_grad_() for points in clouds(1))
    assert torch.autograd.gradcheck(lambda a, b: cs_divergence(a, b, sigma=(0.5, 1.0), unbiased=True), (x, y))


def test_far_clouds_still_attract():
    x, y = clouds(2, shift=50.0)
    x.requires_grad_()
    value = cs_divergence(x.float(), y.float(), sigma=0.1)
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(value)
    assert (gradient.sum(0) < 0).all(), "going down the gradient moves x towards y"


def test_median_width_is_detached_and_scale_free():
    x, y = clouds(3)
    assert cs_divergence(x, y, sigma="median").item() == pytest.approx(
        cs_divergence(7 * x, 7 * y, sigma="median").item()
    )


@pytest.mark.parametrize("sigma", [0.0, -1.0, "mean", ()])
def test_bad_widths(sigma):
    x, y = clouds(4)
    with pytest.raises(ValueError, match="sigma"):
        cs_divergence(x, y, sigma=sigma)


def test_second_derivatives_are_refused():
    x, y = clouds(10)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="cs_divergence cannot be differentiated twice"):
        torch.autograd.grad(cs_divergence(x, y), x, create_graph=True)


def test_the_u_statistic_of_pairs_is_far_below_zero_at_small_widths():
    """As documented: it keeps i = i between the clouds, so it is an estimate for independent samples alone."""
    x, _ = clouds(11, n=64)
    y = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    paired, independent = (cs_divergence(x, other, sigma=0.1, unbiased=True).item() for other in (x, y))
    assert paired < -2
    assert independent > paired + 2


def test_shapes_are_checked():
    for loss in (cs_divergence, lambda x, y, **rule: token_cs_divergence(x[None], y[None], **rule)):
        with pytest.raises(ValueError, match="tile is 0"):
            loss(torch.zeros(3, 4), torch.zeros(3, 4), tile=0)
    with pytest.raises(ValueError, match="y_MD"):
        cs_divergence(torch.zeros(3, 4), torch.zeros(3), sigma=1.0)


LOSSES = {
    "median": lambda x, y: cs_divergence(x, y, unbiased=True),
    "kernels": lambda x, y: cs_divergence(x, y, sigma=(0.5, 1.0), tile=4),
    "tokens": lambda x, y: token_cs_divergence(x[None], y[None], sigma=1.0),
    "mmd": lambda x, y: mmd(x, y, sigma=(0.5, 1.0), unbiased=True, tile=4),
    "gaussian_kl": gaussian_kl,
    "sliced_wasserstein": lambda x, y: sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(0)),
}


def value_and_gradients(loss, *points, autocast=False):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(*points)
    return value.detach(), *torch.autograd.grad(value, points)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_compiled_equals_eager(loss):
    x, y = (points.requires_grad_() for points in clouds(8))
    compiled = torch.compile(LOSSES[loss], backend="aot_eager")
    for ours, theirs in zip(value_and_gradients(compiled, x, y), value_and_gradients(LOSSES[loss], x, y), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_bf16_would_lose_the_divergence():
    """As documented: why the losses leave autocast."""
    random = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(256, 64, generator=random), dim=-1) for _ in range(2))
    exact, rough = (dense(a, b, sigma=(1.0,), unbiased=False).item() for a, b in ((x, y), (x.bfloat16(), y.bfloat16())))
    assert 0.01 < exact < 0.02
    assert abs(rough - exact) > 0.5 * exact


def test_the_diagonal_pushes_the_v_statistic_up():
    """As documented: 0.6 for 128 random unit vectors in 64 dimensions at σ = 0.5, where the divergence is 0."""
    random = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(128, 64, generator=random), dim=-1) for _ in range(2))
    assert cs_divergence(x, y, sigma=0.5).item() == pytest.approx(0.6, abs=0.05)
    assert abs(cs_divergence(x, y, sigma=0.5, unbiased=True).item()) < 0.05


@pytest.mark.parametrize("loss", LOSSES)
def test_is_fp32_under_autocast(loss):
    x, y = (points.float().requires_grad_() for points in clouds(9))
    inside = value_and_gradients(LOSSES[loss], x, y, autocast=True)
    for ours, theirs in zip(inside, value_and_gradients(LOSSES[loss], x, y), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
