"""The set of regions that a phrase names to a trained run: the best subset, as grounding asks for it.

Suffixes: N phrases, R regions of the phrase's image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlalign.evaluation.features import DenseFeatures
from vlalign.evaluation.referents import PhraseScores, best_exponent, best_prefix
from vlalign.evaluation.similarity import feature_centres, phrase_scores

# p where no phrases with known referents are at hand to choose it with.
EXPONENT = 0.75


@dataclass(frozen=True)
class NamedSets:
    """What the N phrases of a split name.

    scores: similarities, of centred features. named_NR: bool, the objects that each phrase names. exponent: p of
    Σ_{r ∈ A} s_r / |A|^p, of which the best subset A has the most.
    """

    scores: PhraseScores
    named_NR: Tensor
    exponent: float

    @property
    def is_right(self) -> Tensor:
        """Whether a phrase names exactly the objects that it means, bool [N]."""
        return (self.named_NR == self.scores.referents_NR).all(1)


def named_sets(dense: DenseFeatures, tuning: DenseFeatures | None = None) -> NamedSets:
    """Of the phrases of a split, as the benchmark grounding finds them (`prefix_exact`): with the means and the p of
    the split that it is tuned on.

    tuning: of that split; without its phrases the means are the split's own, and p is `EXPONENT`.
    """
    if tuning is None or not tuning.phrases:
        centres, exponent = feature_centres(dense), EXPONENT
    else:
        centres = feature_centres(tuning)
        exponent = best_exponent(phrase_scores(tuning, centres=centres))
    scores = phrase_scores(dense, centres=centres)
    return NamedSets(scores, best_prefix(scores, exponent), exponent)


def best_subsets(similarity_NR: Tensor, exponent: float = EXPONENT) -> list[set[int]]:
    """The regions that phrases name where nobody knows what they mean; -inf for those that cannot be named."""
    if not similarity_NR.shape[1]:
        return [set() for _ in similarity_NR]
    regions_NR = similarity_NR != -torch.inf
    nothing_N0, nobody_NR = similarity_NR[:, :0], torch.zeros_like(regions_NR)
    scores = PhraseScores(
        similarity_NR, regions_NR, nobody_NR, nothing_N0, nothing_N0, nothing_N0, regions_NR[:, :0]
    )
    return [set(row.nonzero()[:, 0].tolist()) for row in best_prefix(scores, exponent)]
