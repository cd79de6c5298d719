"""Divergence between the Gaussians that fit two clouds of points."""

import torch
from torch import Tensor

from vlalign.objectives.distributed import Group, gather
from vlalign.objectives.numerics import check_counts, check_shapes, precise_pair, without_autocast

# With less, covariances of a few points could not be inverted in fp32.
LEAST_SHRINKAGE = 0.001


def gaussian_kl(x_ND: Tensor, y_MD: Tensor, *, shrinkage: float = 0.5, group: Group = None) -> Tensor:
    """KL(p ‖ q) + KL(q ‖ p) of the Gaussians p and q that fit two samples of any sizes; points need not be paired.

    The symmetrised form (Jeffreys, 1946, https://doi.org/10.1098/rspa.1946.0056) has no logarithm of a determinant:

        ½ tr(Σₓ⁻¹ A Σᵧ⁻¹ A) + ½ δᵀ (Σₓ⁻¹ + Σᵧ⁻¹) δ,   A = Σₓ − Σᵧ,   δ = μₓ − μᵧ

    Covariances are (1 − shrinkage) · S + shrinkage · v · I, where S is that of the sample and v the variance per
    dimension of both samples' equal mixture, detached. So they can be inverted whatever N, M and D are, a single point
    has a covariance too, and turning, moving or scaling both samples changes nothing. Both shrink towards the same
    matrix, so that shrinking itself sets nothing apart. Samples of one distribution are not 0 apart: with fewer points
    than dimensions each has directions that the other lacks, and the less is shrunk, the more these count.

    Args:
        x_ND: the points of one sample.
        y_MD: the points of the other.
        shrinkage: 0.001 to 1, where only the means count: the value is |δ|² / v.
        group: processes that hold a part of the points each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its value or shape.
    """
    check_shapes(x_ND, y_MD)
    if not LEAST_SHRINKAGE <= shrinkage <= 1:
        raise ValueError(f"shrinkage is {shrinkage}; it must be from {LEAST_SHRINKAGE} to 1")
    with without_autocast(x_ND):
        x_ND, y_MD = precise_pair(x_ND, y_MD)
        x_ND, y_MD = gather(x_ND, group), gather(y_MD, group)
        check_counts(1, x_ND=x_ND, y_MD=y_MD)
        (x_mean, x_covariance), (y_mean, y_covariance) = _moments(x_ND), _moments(y_MD)
        apart_D = x_mean - y_mean
        variance = (x_covariance + y_covariance).trace() / 2 + apart_D.square().sum() / 4
        # Points that are all the same have no variance.
        ridge = shrinkage * (variance / len(apart_D)).detach().clamp_min(1e-12) * torch.eye(len(apart_D)).to(apart_D)
        difference = (1 - shrinkage) * (x_covariance - y_covariance)
        wanted = torch.cat((difference, apart_D[:, None]), 1)
        x_solved, y_solved = (_solve((1 - shrinkage) * s + ridge, wanted) for s in (x_covariance, y_covariance))
        spread = (x_solved[:, :-1] * y_solved[:, :-1].T).sum()
        return (spread + apart_D @ (x_solved + y_solved)[:, -1]) / 2


def _moments(points_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean D and covariance D D, both of maximum likelihood."""
    mean_D = points_ND.mean(0)
    centred = points_ND - mean_D
    return mean_D, centred.T @ centred / len(centred)


def _solve(covariance_DD: Tensor, wanted: Tensor) -> Tensor:
    """Without the question whether it can be solved, for which a host would wait for its device."""
    return torch.cholesky_solve(wanted, torch.linalg.cholesky_ex(covariance_DD).L)
