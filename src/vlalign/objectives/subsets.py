"""Subsets of regions, and the sums and maxima over them that aggregators share.

Similarities are s or x = s − b, [..., P, R]; masks [..., 1, R] and [..., P, 1], True = real.
"""

import torch
from torch import Tensor

# Stands for "never chosen" in a max: finite, so that a row without real entries has no NaN gradient.
NEVER = -1e30


def all_subsets(count: int, *, device: torch.device | None = None) -> Tensor:
    """Indicators of all subsets of `count` regions, 2^R R."""
    return (torch.arange(2**count, device=device)[:, None] >> torch.arange(count, device=device) & 1).bool()


def sample_subsets(count: int, samples: int, *, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Indicators of `samples` // 2 uniform subsets, then of their complements, S R, in the type and place of `like`."""
    half = torch.randint(0, 2, (samples // 2, count), generator=generator).bool().to(like.device)
    return torch.cat([half, ~half]).to(like.dtype)


def mean_of_subsets(x: Tensor, phrase_mask: Tensor, subsets_SR: Tensor) -> Tensor:
    """R2T over these subsets: the mean over them of the best phrase's sum, [...].

    Regions that are not real add 0 to every subset, so the mean over the subsets of all R equals that of the real ones.
    """
    return (x @ subsets_SR.T).masked_fill(~phrase_mask, NEVER).amax(-2).mean(-1)


def best_subset(x: Tensor, region_mask: Tensor, *, empty_subset: bool) -> Tensor:
    """max over subsets of Σ x, [..., P]: all above 0 or, where the empty subset does not count, the least bad one."""
    best = x.relu().sum(-1)
    if empty_subset:
        return best
    largest = x.masked_fill(~region_mask, NEVER).amax(-1)
    return torch.where(largest > 0, best, largest)


def phrase_mean(x: Tensor, phrase_mask: Tensor) -> Tensor:
    """Mean over the real phrases, of x [..., P]; 0 where there are none."""
    real = phrase_mask[..., 0]
    return (x * real).sum(-1) / real.sum(-1).clamp_min(1)


def share_of_others(region_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 − 2^−R: the share of the subsets that are not empty, [...] of a mask [..., R]."""
    return 1 - torch.exp2(-region_mask.sum(-1, dtype=dtype).clamp_min(1))
