"""Scores between the powerset of an image's regions and the phrases of a caption (PowerCLIP, sections 3 and 4).

With s[r, B] = ⟨φ_r, p_B⟩ a subset A of regions scores a phrase B as Σ_{r ∈ A} (s[r, B] − b), where b is the cost of a
region (0 as published). For every image and caption

    R2T = mean over the 2^R subsets A of max over phrases B of Σ_{r ∈ A} (s[r, B] − b)
    T2R = mean over phrases B of max over subsets A of Σ_{r ∈ A} (s[r, B] − b) = mean_B Σ_r relu(s[r, B] − b)

All is computed in fp32 (or fp64 for fp64 input), whatever autocast says: bf16 costs 0.01 of score. Padded regions and
phrases change nothing.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

AGGREGATORS = ("exact", "nla", "sampled", "mean", "max")
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


class Aggregation(NamedTuple):
    """How similarities become scores; see `powerset_scores` for the meaning of each."""

    aggregator: str = "nla"
    tau: float = 1e-3
    zeta: float = 0.75
    cost: float = 0.0
    subsets_SR: Tensor | None = None

    def __call__(self, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
        """Scores of similarities s [..., P, R]; the masks [..., R] and [..., P] broadcast against it."""
        region_mask, phrase_mask = region_mask[..., None, :], phrase_mask[..., :, None]
        s = s - self.cost if self.aggregator not in ("mean", "max") else s
        return FORMULAS[self.aggregator](self, s, region_mask, phrase_mask)


def powerset_scores(
    regions_IRD: Tensor,
    phrases_CPD: Tensor,
    *,
    region_mask: Tensor | None = None,
    phrase_mask: Tensor | None = None,
    aggregator: str = "nla",
    tau: float = 1e-3,
    zeta: float = 0.75,
    cost: float = 0.0,
    samples: int = 16,
    generator: torch.Generator | None = None,
) -> PowersetScores:
    """Scores of every image with every caption, I C in either direction.

    Args:
        regions_IRD: regions φ. phrases_CPD: phrases p.
        region_mask: I R, True for real regions. phrase_mask: C P, True for real phrases.
        aggregator: `exact` enumerates the subsets (R at most 16); `nla` is T1 + T2 of the paper, O(R); `sampled` has
            exact T2R and R2T over `samples` random subsets in complementary pairs (unbiased); `mean` and `max` are
            controls without subsets: the mean similarity, and the single best region.
        tau, zeta: of the non-linear aggregators. cost: b above.
        generator: of the random subsets.

    Raises:
        ValueError: naming the argument at fault and its shape.
    """
    regions_IRD, phrases_CPD = _checked(regions_IRD, "regions_IRD"), _checked(phrases_CPD, "phrases_CPD")
    region_mask = _mask(region_mask, regions_IRD, "region_mask")
    phrase_mask = _mask(phrase_mask, phrases_CPD, "phrase_mask")
    aggregation = make_aggregation(
        regions_IRD, aggregator=aggregator, tau=tau, zeta=zeta, cost=cost, samples=samples, generator=generator
    )
    return score_all(regions_IRD, phrases_CPD, region_mask, phrase_mask, aggregation)


def score_all(
    regions_IRD: Tensor, phrases_CPD: Tensor, region_mask: Tensor, phrase_mask: Tensor, aggregation: Aggregation
) -> PowersetScores:
    """Scores of all I x C pairs at once."""
    with torch.autocast(regions_IRD.device.type, enabled=False):
        similarity = torch.einsum("ird,cpd->icpr", regions_IRD, phrases_CPD)
        return aggregation(similarity, region_mask[:, None], phrase_mask[None])


def make_aggregation(
    regions_IRD: Tensor,
    *,
    aggregator: str,
    tau: float,
    zeta: float,
    cost: float,
    samples: int,
    generator: torch.Generator | None,
) -> Aggregation:
    """Check the arguments and draw the subsets, once for all pairs."""
    if aggregator not in AGGREGATORS:
        raise ValueError(f"aggregator is {aggregator!r}; it must be one of {', '.join(AGGREGATORS)}")
    if tau <= 0:
        raise ValueError(f"tau is {tau}; it must be above 0")
    if not 0 <= zeta <= 1:
        raise ValueError(f"zeta is {zeta}; it must lie in [0, 1]")
    count = regions_IRD.shape[1]
    subsets = None
    if aggregator == "exact":
        if count > MAX_EXACT_REGIONS:
            raise ValueError(
                f"regions_IRD has shape {tuple(regions_IRD.shape)}: 'exact' enumerates 2^R subsets, "
                f"R at most {MAX_EXACT_REGIONS}; use 'nla' or 'sampled'"
            )
        subsets = all_subsets(count, device=regions_IRD.device)
    elif aggregator == "sampled":
        if samples < 2 or samples % 2:
            raise ValueError(f"samples is {samples}; complementary pairs need an even number of at least 2")
        subsets = sample_subsets(count, samples, generator=generator, device=regions_IRD.device)
    return Aggregation(aggregator, tau, zeta, cost, subsets if subsets is None else subsets.to(regions_IRD.dtype))


def all_subsets(count: int, *, device: torch.device | None = None) -> Tensor:
    """Indicators of all subsets of `count` regions, 2^R R."""
    return (torch.arange(2**count, device=device)[:, None] >> torch.arange(count, device=device) & 1).bool()


def sample_subsets(
    count: int, samples: int, *, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Indicators of `samples` uniform subsets, each followed by its complement, S R: pairing removes most of the
    variance.
    """
    half = torch.randint(0, 2, (samples // 2, count), generator=generator).bool().to(device)
    return torch.cat([half, ~half])


def _exact(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    # Regions that are not real add 0 to every subset, so the mean over the subsets of all R equals that of the real
    # ones.
    assert rule.subsets_SR is not None
    s = s * region_mask
    subset_scores = (s @ rule.subsets_SR.T).masked_fill(~phrase_mask, NEVER).amax(-2)
    return PowersetScores(
        _without_phrases(subset_scores.mean(-1), phrase_mask), _phrase_mean(s.relu().sum(-1), phrase_mask)
    )


class _Softplus(torch.autograd.Function):
    """τ·softplus(s/τ), whose derivative is sigmoid(s/τ).

    From the sigmoid, which is several times faster on a CPU than log1p or torch's own softplus and has no slow denormal
    numbers at small τ; exact to the rounding of s, at any s/τ.
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
    s = s * region_mask
    softplus, at_zero = _Softplus.apply(s, rule.tau).sum(-1), rule.tau * math.log(2)
    t1 = softplus - at_zero * (~region_mask).sum(-1, dtype=s.dtype)
    inner = (1 - rule.zeta) / 2 * s.sum(-1) + rule.zeta * (softplus - at_zero * s.shape[-1])
    t2 = rule.tau * torch.logsumexp((inner / rule.tau).masked_fill(~phrase_mask[..., 0], NEVER), dim=-1)
    return PowersetScores(_without_phrases(t2, phrase_mask), _phrase_mean(t1, phrase_mask))


def _mean(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    """Control: the sum over all regions, so half of it for the average subset, with no choice at all."""
    total = _phrase_mean((s * region_mask).sum(-1), phrase_mask)
    return PowersetScores(total / 2, total)


def _max(rule: Aggregation, s: Tensor, region_mask: Tensor, phrase_mask: Tensor) -> PowersetScores:
    """Control: the best phrase of every region, and R times the best region of every phrase: on the scale of a sum."""
    best_phrase = s.masked_fill(~phrase_mask, NEVER).amax(-2)
    best_region = s.masked_fill(~region_mask, NEVER).amax(-1) * region_mask.sum(-1)
    r2t = _without_phrases((best_phrase * region_mask[..., 0, :]).sum(-1), phrase_mask)
    return PowersetScores(r2t, _phrase_mean(best_region, phrase_mask))


FORMULAS: dict[str, Callable[[Aggregation, Tensor, Tensor, Tensor], PowersetScores]] = {
    "exact": _exact,
    "nla": _nla,
    "sampled": _exact,
    "mean": _mean,
    "max": _max,
}


def _phrase_mean(x: Tensor, phrase_mask: Tensor) -> Tensor:
    """Mean over the real phrases, x [..., P]; 0 where there are none."""
    real = phrase_mask[..., 0]
    return (x * real).sum(-1) / real.sum(-1).clamp_min(1)


def _without_phrases(x: Tensor, phrase_mask: Tensor) -> Tensor:
    return x.masked_fill(~phrase_mask.any(-2)[..., 0], 0)


def _checked(x: Tensor, name: str) -> Tensor:
    if x.ndim != 3:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; it must have 3 dimensions")
    return x if x.dtype == torch.float64 else x.float()


def _mask(mask: Tensor | None, x: Tensor, name: str) -> Tensor:
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool {tuple(x.shape[:2])}"
        )
    return mask
