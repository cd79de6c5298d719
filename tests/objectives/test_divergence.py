import powerset_numpy as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.objectives import cs_divergence


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


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="y_MD"):
        cs_divergence(torch.zeros(3, 4), torch.zeros(3), sigma=1.0)
