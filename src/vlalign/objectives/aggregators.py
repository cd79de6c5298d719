"""From similarities between one image's regions and one caption's phrases to their scores, and how exact that is.

With x[r, B] = s[r, B] − b, where b is what a chosen region costs (0 as published), a subset A of the regions scores a
phrase B as Σ_{r ∈ A} x[r, B], and

    R2T = mean over the 2^R subsets A of max over phrases B of Σ_{r ∈ A} x[r, B]
    T2R = mean over phrases B of max over subsets A of Σ_{r ∈ A} x[r, B] = mean_B Σ_r relu(x[r, B])

Without the empty subset (`empty_subset=False`) both run over the 2^R − 1 others. Pairs without a real region or a real
phrase score 0. `docs/objectives.md` derives every formula and bound.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.numerics import precise

AGGREGATORS = ("exact", "nla", "sampled", "calibrated", "mean", "max")
CONTROLS = ("mean", "max")
ACTIVATIONS = ("softplus", "relu")
DIRECTIONS = ("both", "r2t", "t2r")
MAX_EXACT_REGIONS = 16
# Stands for "never chosen" in a max: finite, so that a row without real entries has no NaN gradient.
NEVER = -1e30


class PowersetScores(NamedTuple):
    """Both directions of the score, I C each."""

    r2t: Tensor
    t2r: Tensor

    @property
    def total(self) -> Tensor:
        """S = R2T + T2R"""
        return self.r2t + self.t2r

    def of(self, direction: str) -> Tensor:
        """S, or one of its two parts: `both`, `r2t` or `t2r`."""
        return self.total if direction == "both" else getattr(self, direction)


class Aggregation(NamedTuple):
    """How similarities become scores; see `powerset_scores` for the meaning of each."""

    aggregator: str = "nla"
    tau: float = 1e-3
    zeta: float | Tensor = 0.75
    activation: str = "softplus"
    cost: float | Tensor = 0.0
    empty_subset: bool = True
    subsets_SR: Tensor | None = None

    def __call__(self, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
        """Scores of similarities s [..., P, R]; the masks [..., R] and [..., P] broadcast against it."""
        region_mask, phrase_mask = region_mask[..., None, :], phrase_mask[..., :, None]
        scores = FORMULAS[self.aggregator](self, (s - self.cost) * region_mask, region_mask, phrase_mask)
        if not self.empty_subset and self.aggregator not in CONTROLS:
            # R2T over the 2^R − 1 others: the empty one adds 0 to the sum. T2R has left it out already.
            scores = scores._replace(r2t=scores.r2t / _share_of_others(region_mask[..., 0, :], scores.r2t.dtype))
        nothing = ~(region_mask.any(-1)[..., 0] & phrase_mask.any(-2)[..., 0])
        return PowersetScores(*(x.masked_fill(nothing, 0) for x in scores))


def _share_of_others(region_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 − 2^−R: the share of the subsets that are not empty."""
    return 1 - torch.exp2(-region_mask.sum(-1, dtype=dtype).clamp_min(1))


def all_subsets(count: int, *, device: torch.device | None = None) -> Tensor:
    """Indicators of all subsets of `count` regions, 2^R R."""
    return (torch.arange(2**count, device=device)[:, None] >> torch.arange(count, device=device) & 1).bool()


def sample_subsets(
    count: int, samples: int, *, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Indicators of `samples` // 2 uniform subsets, then of their complements, S R."""
    half = torch.randint(0, 2, (samples // 2, count), generator=generator).bool().to(device)
    return torch.cat([half, ~half])


def _exact(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    # Regions that are not real add 0 to every subset, so the mean over the subsets of all R equals that of the real
    # ones.
    assert rule.subsets_SR is not None
    subset_scores = (s @ rule.subsets_SR.T).masked_fill(~phrase_mask, NEVER).amax(-2)
    best = _best_subset(rule, s, region_mask)
    return PowersetScores(subset_scores.mean(-1), _phrase_mean(best, phrase_mask))


def _best_subset(rule: Aggregation, s: Tensor, region_mask: Tensor) -> Tensor:
    """max over subsets of Σ s: all that are above 0 or, where the empty subset does not count, the least bad one."""
    best = s.relu().sum(-1)
    if rule.empty_subset:
        return best
    largest = s.masked_fill(~region_mask, NEVER).amax(-1)
    return torch.where(largest > 0, best, largest)


class _Softplus(torch.autograd.Function):
    """τ·softplus(s/τ), whose derivative is sigmoid(s/τ).

    From the sigmoid, which costs a CPU less than log1p or torch's own softplus (`benchmarks/objectives.py softplus`);
    exact to the rounding of s or τ, the larger.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(s)
        ctx.tau = tau
        return (s.abs() / tau).sigmoid_().log_().mul_(-tau).add_(s.relu())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (s,) = ctx.saved_tensors
        return torch.sigmoid(s / ctx.tau) * gradients[0], None


def _nla(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    """T1 and T2 (definitions 1 and 2).

    One transcendental serves both: with f(x) = softplus(x), log cosh(x/2) = f(x) − x/2 − log 2, hence
    x/2 + ζ·log cosh(x/2) = (1 − ζ)·x/2 + ζ·(f(x) − log 2). Regions that are not real have x = 0 and f = log 2.
    """
    softplus, at_zero = _Softplus.apply(s, rule.tau).sum(-1), rule.tau * math.log(2)
    t1 = softplus - at_zero * (~region_mask).sum(-1, dtype=s.dtype)
    inner = _inner(softplus - at_zero * s.shape[-1], s.sum(-1), rule.zeta)
    if rule.activation == "relu":
        t1 = _best_subset(rule, s, region_mask)
    elif not rule.empty_subset:
        t1 = _log_of_others(s, region_mask, rule.tau)
    t2 = _t2(inner, phrase_mask[..., 0], rule.tau)
    return PowersetScores(t2, _phrase_mean(t1, phrase_mask))


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


def _mean(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    """Control: the sum over all regions, so half of it for the average subset, with no choice at all."""
    total = _phrase_mean(s.sum(-1), phrase_mask)
    return PowersetScores(total / 2, total)


def _max(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    """Control: the best phrase of every region, and R times the best region of every phrase: on the scale of a sum."""
    best_phrase = s.masked_fill(~phrase_mask, NEVER).amax(-2)
    best_region = s.masked_fill(~region_mask, NEVER).amax(-1) * region_mask.sum(-1)
    r2t = (best_phrase * region_mask[..., 0, :]).sum(-1)
    return PowersetScores(r2t, _phrase_mean(best_region, phrase_mask))


FORMULAS: dict[str, Callable[[Aggregation, Tensor, Tensor, Tensor], PowersetScores]] = {
    "exact": _exact,
    "nla": _nla,
    "sampled": _exact,
    "calibrated": _nla,
    "mean": _mean,
    "max": _max,
}


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
    low, high = (
        Aggregation("nla", tau=tau, zeta=zeta, cost=cost)(s, region_mask, phrase_mask).r2t for zeta in (0.0, 1.0)
    )
    low = low - tau * phrase_mask.sum(-1, dtype=s.dtype).clamp_min(1).log()
    if empty_subset:
        return low, high
    others = _share_of_others(region_mask, s.dtype)
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
    sampled = Aggregation("sampled", cost=cost, subsets_SR=subsets_SR)(s, region_mask, phrase_mask).r2t
    x = (s - cost) * region_mask[:, None]
    log_cosh = _Softplus.apply(x, tau).sum(-1) - tau * math.log(2) * x.shape[-1]
    linear, some = x.sum(-1), phrase_mask.any(-1) & region_mask.any(-1)
    low, high = s.new_zeros(()), s.new_ones(())
    for _ in range(30):
        middle = (low + high) / 2
        over = (_t2(_inner(log_cosh, linear, middle), phrase_mask, tau) - sampled)[some].sum() >= 0
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return (low + high) / 2


def _phrase_mean(x: Tensor, phrase_mask: Tensor) -> Tensor:
    """Mean over the real phrases, x [..., P]; 0 where there are none."""
    real = phrase_mask[..., 0]
    return (x * real).sum(-1) / real.sum(-1).clamp_min(1)
