"""Grounding: does a phrase score its own referents above the image's other regions and patches?

Suffixes: N phrases, R regions of the phrase's image, V patches. Region similarities of phrase n are those of the image
that it belongs to, so that every row has its own gallery.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor

from vlalign.evaluation.ranking import TIE, percent, strictly_best
from vlalign.objectives.subsets import NEVER

COVERED = 0.5


@dataclass(frozen=True)
class PhraseScores:
    """Similarities of the phrases of one split with the regions and patches of their own images.

    regions_NR: similarity with each object's mask. objects_NR: bool, which regions exist. referents_NR: bool, which of
    them the phrase names (at least one). patches_NV: similarity with each patch. coverage_NV: share of each patch's
    area that the referents cover, 0-1. boxes_NB: similarity with each random box of the image. box_mask_NB: bool, which
    boxes exist; no columns where the dataset has no boxes.
    """

    regions_NR: Tensor
    objects_NR: Tensor
    referents_NR: Tensor
    patches_NV: Tensor
    coverage_NV: Tensor
    boxes_NB: Tensor
    box_mask_NB: Tensor

    def select(self, keep_N: Tensor) -> "PhraseScores":
        """The phrases where the bool mask is True."""
        return PhraseScores(*(getattr(self, name)[keep_N] for name in self.__dataclass_fields__))


def recall_at_k(scores_NR: Tensor, referents_NR: Tensor, objects_NR: Tensor) -> Tensor:
    """Share [N] of each phrase's k referents that are among the k best objects; ties go to the wrong objects."""
    wrong_NR = objects_NR & ~referents_NR
    wrong_above = ((scores_NR[:, None] >= scores_NR[:, :, None] - TIE) & wrong_NR[:, None]).sum(2)
    right_NR = scores_NR.masked_fill(~referents_NR, -torch.inf)
    right_above = right_NR.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    k_N = referents_NR.sum(1)
    return ((wrong_above + right_above < k_N[:, None]) & referents_NR).sum(1) / k_N


def top_k_chance(referents_NR: Tensor, objects_NR: Tensor) -> Tensor:
    """Chance [N] that k objects drawn from the image's n are exactly the k referents: 1 / C(n, k)."""
    counts = zip(objects_NR.sum(1).tolist(), referents_NR.sum(1).tolist(), strict=True)
    return torch.tensor([1.0 / comb(n, k) for n, k in counts], dtype=torch.float64)


def f1_per_phrase(chosen_NR: Tensor, referents_NR: Tensor) -> Tensor:
    """F1 [N] of the chosen set against the referents; 0 for an empty choice."""
    return 2.0 * (chosen_NR & referents_NR).sum(1) / (chosen_NR.sum(1) + referents_NR.sum(1))


def best_threshold(scores: PhraseScores, *, steps: int = 200) -> float:
    """The similarity above which choosing a region gives the highest mean F1, among `steps` quantiles of the scores."""
    quantiles = np.quantile(scores.regions_NR[scores.objects_NR].double().numpy(), np.linspace(0.0, 1.0, steps))
    thresholds = sorted(set(quantiles.tolist()))

    def mean_f1(threshold: float) -> float:
        chosen_NR = (scores.regions_NR > threshold) & scores.objects_NR
        return f1_per_phrase(chosen_NR, scores.referents_NR).mean().item()

    return max(thresholds, key=mean_f1)


def best_prefix(scores: PhraseScores, exponent: float) -> Tensor:
    """The objects [N, R] (bool) that each phrase names as a subset: of all that are not empty, that with the largest
    Σ_{r ∈ A} s_r / |A|^p. That of k objects is the k most similar ones, a prefix of their order; of ties the wrong
    objects come first.

    exponent: p, 0-1; the larger it is, the smaller the subsets are.
    """
    wrong_first_NR = scores.referents_NR.int().argsort(dim=1, stable=True)
    regions_NR = scores.regions_NR.masked_fill(~scores.objects_NR, NEVER).gather(1, wrong_first_NR)
    falling_NR, order_NR = regions_NR.sort(dim=1, descending=True, stable=True)
    sizes_R = torch.arange(1, falling_NR.shape[1] + 1)
    size_N1 = 1 + (falling_NR.double().cumsum(1) / sizes_R.double() ** exponent).argmax(1, keepdim=True)
    chosen_NR = torch.zeros_like(scores.objects_NR).scatter(1, wrong_first_NR.gather(1, order_NR), sizes_R <= size_N1)
    return chosen_NR & scores.objects_NR


def best_exponent(scores: PhraseScores, *, steps: int = 21) -> float:
    """The p of `best_prefix` with the highest mean F1 among `steps` between 0 and 1; the least of equally good ones."""

    def mean_f1(exponent: float) -> float:
        return f1_per_phrase(best_prefix(scores, exponent), scores.referents_NR).mean().item()

    return max(np.linspace(0.0, 1.0, steps).tolist(), key=mean_f1)


def set_scores(scores: PhraseScores, *, threshold: float, exponent: float) -> dict[str, Tensor]:
    """How well each phrase's set of referents is found, bool or 0-1, [N].

    Returns "top_k" (the k best objects are exactly the k referents); "recall_at_k"; "f1" and
    "exact" (the very set) of the objects that score above `threshold`; the same of the `best_prefix`.
    """
    regions, objects, referents = scores.regions_NR, scores.objects_NR, scores.referents_NR
    chosen_NR, prefix_NR = (regions > threshold) & objects, best_prefix(scores, exponent)
    return {
        "top_k": strictly_best(regions, referents, objects),
        "recall_at_k": recall_at_k(regions, referents, objects),
        "f1": f1_per_phrase(chosen_NR, referents),
        "exact": (chosen_NR == referents).all(1),
        "prefix_f1": f1_per_phrase(prefix_NR, referents),
        "prefix_exact": (prefix_NR == referents).all(1),
    }


def box_scores(scores: PhraseScores) -> tuple[Tensor, float]:
    """Top-1 of phrases with one referent, bool [N], when random boxes compete with the objects; chance in percent."""
    candidates = torch.cat([scores.objects_NR, scores.box_mask_NB], 1)
    referents = torch.cat([scores.referents_NR, torch.zeros_like(scores.box_mask_NB)], 1)
    hits = strictly_best(torch.cat([scores.regions_NR, scores.boxes_NB], 1), referents, candidates)
    return hits, percent(1.0 / candidates.sum(1))


def pointable(scores: PhraseScores) -> Tensor:
    """Which phrases [N] (bool) could hit a patch that their referents cover by more than half."""
    return (scores.coverage_NV > COVERED).any(1)


def pointing_scores(scores: PhraseScores) -> tuple[Tensor, float]:
    """Whether each phrase's best patch is one that its referents cover by more than half, bool [N]; chance in percent.

    Every phrase is `pointable`. Chance is the share of such patches. A best patch that ties with one outside misses.
    """
    inside_NV = scores.coverage_NV > COVERED
    best_inside = scores.patches_NV.masked_fill(~inside_NV, -torch.inf).amax(1)
    best_outside = scores.patches_NV.masked_fill(inside_NV, -torch.inf).amax(1)
    return best_inside > best_outside + TIE, percent(inside_NV.double().mean(1))


def positive_share(scores: PhraseScores) -> float:
    """Percentage of positive similarities among those of all phrases with their own images' objects.

    Near 100 the best subset of regions is always all of them, and the powerset does nothing.
    """
    return percent(scores.regions_NR[scores.objects_NR] > 0)
