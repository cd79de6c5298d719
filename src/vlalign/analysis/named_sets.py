"""The set of regions that a phrase names to a trained run: the best subset, as grounding asks for it.

Suffixes: N phrases, R regions of the phrase's image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vlalign.data.samples import decode_image, decode_instances
from vlalign.data.shards.split import Split
from vlalign.evaluation.features import DenseFeatures
from vlalign.evaluation.referents import PhraseScores, best_exponent, best_prefix
from vlalign.evaluation.similarity import feature_centres, phrase_scores

if TYPE_CHECKING:
    from vlalign.analysis.illustrations import ShownRun

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
    scores = PhraseScores(similarity_NR, regions_NR, nobody_NR, nothing_N0, nothing_N0, nothing_N0, regions_NR[:, :0])
    return [set(row.nonzero()[:, 0].tolist()) for row in best_prefix(scores, exponent)]


@dataclass(frozen=True)
class NamedPhrases:
    """The phrases of a split with what they mean, and what they name to a run.

    split: where its pictures lie. texts: of the N phrases. places: of each phrase the row of its image, its caption's
    and its words in it. referents_NR, named_NR: bool, of the objects of its image, by their ids from 1. exponent: see
    `NamedSets`.
    """

    split: Path
    texts: tuple[str, ...]
    places: tuple[tuple[int, int, tuple[int, ...]], ...]
    referents_NR: np.ndarray
    named_NR: np.ndarray
    exponent: float

    @property
    def is_right(self) -> np.ndarray:
        """Whether a phrase names exactly the objects that it means, bool [N]."""
        right: np.ndarray = (self.named_NR == self.referents_NR).all(1)
        return right


def named_phrases(run: "ShownRun") -> NamedPhrases | None:
    """Those of the split that a run is shown on; None where it has no `named`."""
    found, dense = run.named, run.features.dense
    if found is None or dense is None:
        return None
    return NamedPhrases(
        run.bench.data / run.split,
        tuple(phrase.text for phrase in dense.phrases),
        tuple((phrase.image, phrase.caption, phrase.words) for phrase in dense.phrases),
        found.scores.referents_NR.numpy(),
        found.named_NR.numpy(),
        found.exponent,
    )


def labelled_pictures(split: Path, rows: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Pictures of a split by their row, H W 3, with their maps of objects, H W; only these are read."""
    data, found = Split(split), {}
    for row in sorted(set(rows)):
        shard, place = data.locate(row)
        sample = data.open(shard).sample(place)
        assert sample.instances is not None
        found[row] = np.asarray(decode_image(sample.image)), decode_instances(sample.instances)
    return found
