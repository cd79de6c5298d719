"""The non-linear aggregators T1 and T2 (PowerCLIP, definitions 1 and 2), their bounds, and the ζ that fits a batch."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.aggregator import NonLinearAggregator, PowersetScores
from vlalign.objectives.aggregators.nla import NLA
from vlalign.objectives.aggregators.sampled import Sampled
from vlalign.objectives.numerics import precise
from vlalign.objectives.subsets import NEVER, best_subset, phrase_mean, share_of_others


class Softplus(torch.autograd.Function):
    """τ·softplus(s/τ), whose derivative is sigmoid(s/τ).

    From the sigmoid, which costs a CPU less than log1p or torch's own softplus (`benchmarks/objectives.py softplus`);
    exact to the rounding of s or τ, the larger.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, tau: float) -> Tensor:
        """Value."""
        ctx.save_for_backward(s)
        ctx.tau = tau
        return (s.abs() / tau).sigmoid_().log_().mul_(-tau).add_(s.relu())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Gradient."""
        (s,) = ctx.saved_tensors
        return torch.sigmoid(s / ctx.tau) * gradients[0], None


def nla(
    rule: NonLinearAggregator, x: Tensor, region_mask: Tensor, phrase_mask: Tensor, *, zeta: float | Tensor
) -> PowersetScores:
    """T2 as R2T, and T1 as T2R; of x = s − b [..., P, R], masks [..., 1, R] and [..., P, 1].

    One transcendental serves both: with f(x) = softplus(x), log cosh(x/2) = f(x) − x/2 − log 2, hence
    x/2 + ζ·log cosh(x/2) = (1 − ζ)·x/2 + ζ·(f(x) − log 2). Regions that are not real have x = 0 and f = log 2.
    """
    softplus, at_zero = Softplus.apply(x, rule.tau).sum(-1), rule.tau * math.log(2)
    t1 = softplus - at_zero * (~region_mask).sum(-1, dtype=x.dtype)
    inner = _inner(softplus - at_zero * x.shape[-1], x.sum(-1), zeta)
    if rule.activation == "relu":
        t1 = best_subset(x, region_mask, empty_subset=rule.empty_subset)
    elif not rule.empty_subset:
        t1 = _log_of_others(x, region_mask, rule.tau)
    return PowersetScores(_t2(inner, phrase_mask[..., 0], rule.tau), phrase_mean(t1, phrase_mask))


def _inner(log_cosh: Tensor, linear: Tensor, zeta: float | Tensor) -> Tensor:
    """τ·Σ_r x/2 + ζ·log cosh(x/2), from τ·Σ_r (softplus(x) − log 2) and τ·Σ_r x."""
    return (1 - zeta) / 2 * linear + zeta * log_cosh


def _t2(inner: Tensor, phrase_mask: Tensor, tau: float) -> Tensor:
    return tau * torch.logsumexp((inner / tau).masked_fill(~phrase_mask, NEVER), dim=-1)


def _log_of_others(s: Tensor, region_mask: Tensor, tau: float) -> Tensor:
    """T1 without the empty subset: τ·log(Π_r (1 + exp(s/τ)) − 1) = τ·log(exp(u) − 1), u = Σ_r softplus(s/τ).

    Where u underflows, exp(u) − 1 is Σ_r exp(s/τ).
    """
    x = (s / tau).masked_fill(~region_mask, NEVER)
    u = F.softplus(x, threshold=40).sum(-1)
    tiny = u < torch.finfo(u.dtype).tiny * 1e4
    u = u.masked_fill(tiny, 1)
    return tau * torch.where(tiny, torch.logsumexp(x, -1), u + torch.log(-torch.expm1(-u)))


def t1_bound(regions: int | Tensor, tau: float) -> float | Tensor:
    """τ·R·log 2: 0 ≤ T1 − T2R ≤ this, for R real regions. Raises ValueError for τ ≤ 0."""
    check_tau(tau)
    return regions * (tau * math.log(2))


def r2t_bounds(
    s: Tensor,
    region_mask: Tensor,
    phrase_mask: Tensor,
    *,
    tau: float,
    cost: float | Tensor = 0.0,
    empty_subset: bool = True,
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of the exact R2T, [...], in O(R): T2(τ, 0) − τ·log P ≤ R2T ≤ T2(τ, 1).

    The lower one is the best phrase of the average subset, the upper one Jensen's inequality; without the empty subset
    both grow as R2T does. They hold up to rounding. s [..., P, R], masks [..., R] and [..., P]. Raises ValueError for
    τ ≤ 0.
    """
    check_tau(tau)
    s = precise(s)
    low, high = (NLA(tau=tau, zeta=zeta, cost=cost)(s, region_mask, phrase_mask).r2t for zeta in (0.0, 1.0))
    low = low - tau * phrase_mask.sum(-1, dtype=s.dtype).clamp_min(1).log()
    if empty_subset:
        return low, high
    others = share_of_others(region_mask, s.dtype)
    return low / others, high / others


def check_tau(tau: float) -> None:
    """Raises ValueError."""
    if isinstance(tau, Tensor) or not 0 < tau < math.inf:
        raise ValueError(f"tau is {tau}; it must be a number above 0")


@torch.no_grad()
def calibrated_zeta(
    s: Tensor, region_mask: Tensor, phrase_mask: Tensor, subsets_SR: Tensor, *, tau: float, cost: float | Tensor
) -> Tensor:
    """The ζ in [0, 1] at which the mean T2 of these pairs meets the mean R2T over `subsets_SR`, a scalar.

    T2 grows with ζ and, at ζ = 1, is at least the exact R2T, so there is one whenever the mean T2(τ, 0) is at most the
    sampled mean; else 0, as without any real pair. At large τ, T2(τ, 0) is above it: then T2 stays too large.
    s [N, P, R], masks [N, R] and [N, P].
    """
    sampled = Sampled(cost=cost, subsets_SR=subsets_SR)(s, region_mask, phrase_mask).r2t
    x = (s - cost) * region_mask[:, None]
    log_cosh = Softplus.apply(x, tau).sum(-1) - tau * math.log(2) * x.shape[-1]
    linear, some = x.sum(-1), phrase_mask.any(-1) & region_mask.any(-1)
    low, high = s.new_zeros(()), s.new_ones(())
    for _ in range(30):
        middle = (low + high) / 2
        over = (_t2(_inner(log_cosh, linear, middle), phrase_mask, tau) - sampled)[some].sum() >= 0
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return (low + high) / 2
