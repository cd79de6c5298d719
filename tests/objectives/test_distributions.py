"""Divergences of two samples beside Cauchy-Schwarz: MMD, the KL of Gaussians, and sliced Wasserstein."""

from functools import partial

import divergences_numpy as reference
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from vlalign.objectives import cs_divergence, gaussian_kl, mmd, sliced_wasserstein

SIZES = st.sampled_from([(9, 7), (6, 6), (4, 8), (3, 5), (1, 4), (1, 1)])


def clouds(seed, n=9, m=7, shift=0.5, dimensions=4):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dimensions, generator=random, dtype=torch.float64)
    return x, torch.randn(m, dimensions, generator=random, dtype=torch.float64) * 1.5 + shift


def seeded():
    return torch.Generator().manual_seed(3)


def sliced(x, y, **rule):
    return sliced_wasserstein(x, y, generator=seeded(), **rule)


DIVERGENCES = {
    "cs": lambda x, y: cs_divergence(x, y, sigma=1.0),
    "mmd": lambda x, y: mmd(x, y, sigma=1.0),
    "mmd, median": mmd,
    "gaussian_kl": gaussian_kl,
    "sliced_wasserstein": sliced,
}
every = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)


def value_and_gradients(divergence, *points):
    points = [cloud.detach().requires_grad_() for cloud in points]
    value = divergence(*points)
    return value.detach(), *torch.autograd.grad(3 * value, points)


def equals(ours, theirs, x, y):
    """A divergence, and three times its gradients, beside those of a function of NumPy arrays."""
    value, *gradients = value_and_gradients(ours, x, y)
    x, y = x.numpy(), y.numpy()
    assert value.item() == pytest.approx(theirs(x, y), rel=1e-9, abs=1e-12)
    slopes = reference.slope(lambda a: theirs(a, y), x), reference.slope(lambda b: theirs(x, b), y)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient.numpy(), 3 * slope, atol=1e-6, rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=SIZES,
    sigma=st.sampled_from([0.7, 2.0, (0.5, 1.0, 3.0)]),
    tile=st.sampled_from([1, 4, 256]),
    unbiased=st.booleans(),
)
def test_mmd_equals_the_double_loop(seed, sizes, sigma, tile, unbiased):
    rule = {"sigma": sigma, "unbiased": unbiased and min(sizes) > 1}
    equals(partial(mmd, tile=tile, **rule), partial(reference.mmd, **rule), *clouds(seed, *sizes))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=SIZES, shrinkage=st.sampled_from([0.05, 0.5, 1.0]))
def test_gaussian_kl_equals_the_definition(seed, sizes, shrinkage):
    """v is detached: the slopes are those at the samples' own v."""
    x, y = clouds(seed, *sizes)
    rule = {"shrinkage": shrinkage, "variance": reference.mixture_variance(x.numpy(), y.numpy())}
    equals(partial(gaussian_kl, shrinkage=shrinkage), partial(reference.gaussian_kl, **rule), x, y)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=SIZES)
def test_sliced_wasserstein_equals_repeated_points(seed, sizes):
    lines = F.normalize(torch.randn(4, 5, generator=seeded()).double(), dim=0).numpy()
    theirs = partial(reference.sliced_wasserstein, directions=lines)
    equals(partial(sliced, projections=5), theirs, *clouds(seed, *sizes))


def with_moments(mean, variance, *, count):
    """Points whose mean is exactly this, and whose covariance this multiple of the identity."""
    points = torch.randn(count, len(mean), generator=seeded(), dtype=torch.float64)
    points -= points.mean(0)
    factor = torch.linalg.cholesky(points.T @ points / count)
    return torch.linalg.solve_triangular(factor, points.T, upper=False).T * variance**0.5 + mean


def test_gaussian_kl_of_round_gaussians_has_a_closed_form():
    mean, zero = torch.tensor([3.0, -1, 0, 2], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    x, y = with_moments(zero, 1.0, count=20), with_moments(mean, 4.0, count=30)
    squared = mean.square().sum().item()
    ridge = 0.25 * ((1 + 4) / 2 + squared / 4 / 4)
    p, q = 0.75 * 1 + ridge, 0.75 * 4 + ridge
    expected = 4 / 2 * (p / q + q / p - 2) + squared / 2 * (1 / p + 1 / q)
    assert gaussian_kl(x, y, shrinkage=0.25).item() == pytest.approx(expected, rel=1e-12)
    assert gaussian_kl(x, y, shrinkage=1).item() == pytest.approx(squared / (4 * ridge), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (7, 3)])
def test_on_a_line_it_is_the_best_transport(n, m):
    x, y = clouds(0, n, m, dimensions=1)
    cost = (np.repeat(x.numpy(), m, 0) - np.repeat(y.numpy(), n, 0).T) ** 2
    assert sliced(x, y, projections=2).item() == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-12)


def test_a_moved_cloud_is_as_far_apart_as_documented():
    x, _ = clouds(1)
    move = torch.tensor([3.0, 0, 4, 0], dtype=torch.float64)
    assert sliced(x, x + move, projections=20_000).item() == pytest.approx(25 / 4, rel=0.02)


@every
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_each_is_a_divergence(divergence, seed):
    x, y = clouds(seed)
    there, back = divergence(x, y).item(), divergence(y, x).item()
    assert there > 0
    assert there == pytest.approx(back, rel=1e-9)
    assert divergence(x, x[torch.randperm(len(x))]).item() == pytest.approx(0, abs=1e-12)
    assert divergence(torch.cat((x, x, x)), x).item() == pytest.approx(0, abs=1e-12), "points may count several times"


@every
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (3, 2)])
def test_few_points_in_many_dimensions_have_a_value_and_a_gradient(divergence, n, m):
    x, y = (F.normalize(cloud, dim=1).float() for cloud in clouds(2, n, m, dimensions=64))
    value, *gradients = value_and_gradients(divergence, x, y)
    assert value > 0
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)
    for found in value_and_gradients(divergence, x[:1], x[:1].clone()):
        assert (found == 0).all(), "one and the same point"


@every
def test_bf16_is_computed_in_fp32(divergence):
    x, y = (cloud.bfloat16() for cloud in clouds(4))
    found = divergence(x, y)
    assert found.dtype == torch.float32
    assert found == divergence(x.float(), y.float())


@every
def test_fp32_is_as_good_as_fp64_far_from_the_origin(divergence):
    x, y = ((F.normalize(cloud, dim=1) + 10).float() for cloud in clouds(5, 40, 30, dimensions=64))
    near = divergence(x.double(), y.double())
    assert divergence(x, y).item() == pytest.approx(near.item(), rel=1e-4)


@every
def test_training_brings_two_clouds_together(divergence):
    x, y = (F.normalize(cloud, dim=1).float() for cloud in clouds(6, 24, 32, dimensions=16))
    before = (x.mean(0) - y.mean(0)).norm()
    x.requires_grad_()
    optimizer, values = torch.optim.Adam([x], lr=0.02), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = divergence(F.normalize(x, dim=1), y)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    assert (F.normalize(x, dim=1).mean(0) - y.mean(0)).norm() < 0.5 * before


@every
def test_what_does_not_fit_is_named(divergence):
    x, y = clouds(7)
    with pytest.raises(ValueError, match=r"x_ND has shape \(9, 4\), y_MD \(7, 3\): 2 dimensions, and D must agree"):
        divergence(x, y[:, :3])
    with pytest.raises(ValueError, match=r"y_MD has shape \(0, 4\): too few points"):
        divergence(x, y[:0])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, y: mmd(x[:1], y, unbiased=True), r"x_ND has shape \(1, 4\): too few points"),
        (lambda x, y: mmd(x, y, sigma=0), "sigma is 0; it must be above 0"),
        (lambda x, y: mmd(x, y, tile=0), "tile is 0"),
        (lambda x, y: gaussian_kl(x, y, shrinkage=0), "shrinkage is 0; it must be from 0.001 to 1"),
        (lambda x, y: gaussian_kl(x, y, shrinkage=float("nan")), "shrinkage is nan"),
        (lambda x, y: sliced_wasserstein(x, y, projections=0), "projections is 0"),
        (lambda x, y: sliced_wasserstein(x, y, group=object()), "generator is missing: processes must draw the same"),
    ],
)
def test_bad_settings_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(*clouds(8))


def test_second_derivatives_of_mmd_are_refused_by_its_name():
    x, y = clouds(9)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="mmd cannot be differentiated twice"):
        torch.autograd.grad(mmd(x, y), x, create_graph=True)


def test_without_a_generator_directions_are_torchs_own():
    x, y = clouds(10)
    torch.manual_seed(0)
    first, second = sliced_wasserstein(x, y), sliced_wasserstein(x, y)
    torch.manual_seed(0)
    assert sliced_wasserstein(x, y) == first != second


@pytest.mark.parametrize("shrinkage", [0.1, 0.5])
def test_gaussian_kl_does_not_change_with_the_axes(shrinkage):
    """As documented: turning, moving and scaling both samples changes nothing."""
    x, y = clouds(11, 3, 2, dimensions=6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=seeded(), dtype=torch.float64))
    found = gaussian_kl(7 * x @ turn + 2, 7 * y @ turn + 2, shrinkage=shrinkage)
    assert found.item() == pytest.approx(gaussian_kl(x, y, shrinkage=shrinkage).item(), rel=1e-9)


def test_the_diagonal_of_mmd_adds_what_is_documented():
    """1/N and 1/M of the distance between 1 and the mean kernel within a cloud."""
    x, _ = clouds(12, n=40)
    y = clouds(13, n=60)[0]
    biased, unbiased = (mmd(x, y, sigma=0.5, unbiased=unbiased).item() for unbiased in (False, True))
    within = [reference.mmd(cloud.numpy(), cloud.numpy(), sigma=0.5, unbiased=True) for cloud in (x, y)]
    # That is 2 · (mean over i ≠ j − mean with the diagonal).
    assert biased - unbiased == pytest.approx(-sum(within) / 2, rel=1e-9)
    assert abs(unbiased) < 0.02 < biased
