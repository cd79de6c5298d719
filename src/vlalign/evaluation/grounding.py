"""Grounding: does a phrase score its own referents above the image's other regions and patches?

Suffixes: N phrases, R regions of the phrase's image, V patches. Region similarities of phrase n are those of the image
that it belongs to, so that every row has its own gallery.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from torch import Tensor

from vlalign.evaluation.ranking import TIE, Scores, percent, strictly_best

COVERED = 0.5


@dataclass(frozen=True)
class PhraseScores:
    """Similarities of the phrases of one split with the regions and patches of their own images.

    Attributes:
        regions_NR: similarity with each object's mask.
        objects_NR: bool, which regions exist.
        referents_NR: bool, which of them the phrase names (at least one).
        patches_NV: similarity with each patch.
        coverage_NV: share of each patch's area that the referents cover, 0-1.
        boxes_NB: similarity with each random box of the image.
        box_mask_NB: bool, which boxes exist; no columns where the dataset has no boxes.
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


def set_scores(scores: PhraseScores, *, threshold: float) -> Scores:
    """How well the set of referents is found, in percent.

    Returns:
        "phrases"; "top_k" (the k best objects are exactly the k referents) with "chance_top_k"; "recall_at_k";
        "f1" (mean over phrases) and "exact" (the very set) of the objects that score above `threshold`.
    """
    regions, objects, referents = scores.regions_NR, scores.objects_NR, scores.referents_NR
    chosen_NR = (regions > threshold) & objects
    return {
        "phrases": len(regions),
        "top_k": percent(strictly_best(regions, referents, objects)),
        "chance_top_k": percent(top_k_chance(referents, objects)),
        "recall_at_k": percent(recall_at_k(regions, referents, objects)),
        "f1": percent(f1_per_phrase(chosen_NR, referents)),
        "exact": percent((chosen_NR == referents).all(1)),
    }


def box_scores(scores: PhraseScores) -> Scores:
    """Top-1 in percent of phrases with one referent when the image's random boxes compete with its objects."""
    candidates = torch.cat([scores.objects_NR, scores.box_mask_NB], 1)
    referents = torch.cat([scores.referents_NR, torch.zeros_like(scores.box_mask_NB)], 1)
    hits = strictly_best(torch.cat([scores.regions_NR, scores.boxes_NB], 1), referents, candidates)
    return {"phrases": len(hits), "top_1": percent(hits), "chance": percent(1.0 / candidates.sum(1))}


def pointing_scores(scores: PhraseScores) -> Scores:
    """How often, in percent, the phrase's best patch is one that its referents cover by more than half.

    Phrases whose referents cover no patch that far are left out: nothing could hit them. Chance is the share of such
    patches. A best patch that ties with one outside misses.
    """
    inside_NV = scores.coverage_NV > COVERED
    possible_N = inside_NV.any(1)
    if not possible_N.any():
        return {"phrases": 0}
    inside_NV, patches_NV = inside_NV[possible_N], scores.patches_NV[possible_N]
    best_inside = patches_NV.masked_fill(~inside_NV, -torch.inf).amax(1)
    best_outside = patches_NV.masked_fill(inside_NV, -torch.inf).amax(1)
    return {
        "phrases": len(patches_NV),
        "accuracy": percent(best_inside > best_outside + TIE),
        "chance": percent(inside_NV.double().mean(1)),
    }


def grounding_scores(
    scores: PhraseScores, kinds: Sequence[str], strata: Sequence[str | None], *, threshold: float
) -> Scores:
    """Every grounding figure, over all phrases and within each stratum.

    Args:
        scores: the similarities of the N phrases.
        kinds: the kind of each phrase, whatever the dataset calls them.
        strata: the stratum of each phrase's image, None for none.
        threshold: for "f1" and "exact"; tuned on other data than these.

    Returns:
        `kind_scores`, with "threshold" and one nested `kind_scores` per stratum.
    """
    result: Scores = kind_scores(scores, kinds, threshold=threshold) | {"threshold": threshold}
    for stratum in sorted({name for name in strata if name is not None}):
        inside = torch.tensor([name == stratum for name in strata])
        inside_kinds = [kind for kind, keep in zip(kinds, inside.tolist(), strict=True) if keep]
        result[stratum] = kind_scores(scores.select(inside), inside_kinds, threshold=threshold)
    return result


def kind_scores(scores: PhraseScores, kinds: Sequence[str], *, threshold: float) -> Scores:
    """`set_scores` per kind, for "multiple" (two referents or more) and "all"; "one_with_boxes" and "pointing"."""
    groups: Mapping[str, Tensor] = {name: torch.tensor([kind == name for kind in kinds]) for name in sorted(set(kinds))}
    count_N = scores.referents_NR.sum(1)
    groups = {**groups, "multiple": count_N > 1, "all": count_N > 0}
    result: Scores = {
        name: set_scores(scores.select(keep), threshold=threshold) for name, keep in groups.items() if keep.any()
    }
    boxed_N = (count_N == 1) & scores.box_mask_NB.any(1)
    if boxed_N.any():
        result["one_with_boxes"] = box_scores(scores.select(boxed_N))
    return result | {"pointing": pointing_scores(scores)}


def positive_share(scores: PhraseScores) -> float:
    """Percentage of positive similarities among those of all phrases with their own images' objects.

    Near 100 the best subset of regions is always all of them, and the powerset does nothing.
    """
    return percent(scores.regions_NR[scores.objects_NR] > 0)
