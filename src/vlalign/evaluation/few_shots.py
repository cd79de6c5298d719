"""Few images of each class: how they are drawn, and what learns from them.

Suffixes: I images, S images to learn from, D embedding, K classes.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.evaluation.benchmark import UnmeasurableError
from vlalign.evaluation.probes import Labelled, logistic_probe
from vlalign.evaluation.ranking import strictly_best
from vlalign.evaluation.shot_adapters import DIVERGENCE_WEIGHTS, SCALE, fit_adapters

# CoOp chooses hyper-parameters on at most so many images of a class.
VALIDATION_SHOTS = 4
# The α and β of Tip-Adapter that are tried: its released configurations reach to 10 and to 12.
ALPHAS, BETAS = np.geomspace(0.1, 10, 21).tolist(), np.geomspace(0.1, 12, 21).tolist()


def draw(labels: Sequence[int], shots: int, random: Random) -> list[int]:
    """Rows of `shots` images of each class, as CoOp draws them: of a class that has fewer, all.

    Equal to Dassl's `generate_fewshot_dataset`, so that the order of a `split_zhou_*.json` gives CoOp's own images.
    """
    of_class = defaultdict(list)
    for row, label in enumerate(labels):
        of_class[label].append(row)
    chosen = (random.sample(rows, shots) if len(rows) >= shots else rows for rows in of_class.values())
    return [row for rows in chosen for row in rows]


def episode(training: Labelled, validation: Labelled | None, shots: int, seed: int) -> tuple[Labelled, Labelled]:
    """The images to learn from and those on which hyper-parameters are chosen, which depend on labels, shots and seed.

    The latter are min(shots, 4) of each class of `validation`. Where that is None they come from the images of
    `training` that were not drawn, and a class of which none is left has none.
    Raises UnmeasurableError where there is nothing to choose hyper-parameters on.
    """
    random = Random(seed)
    learned = draw(training.labels_N.tolist(), shots, random)
    if validation is None:
        drawn = set(learned)
        validation = training.rows([row for row in range(len(training.labels_N)) if row not in drawn])
    chosen = draw(validation.labels_N.tolist(), min(shots, VALIDATION_SHOTS), random)
    if not chosen:
        raise UnmeasurableError(
            f"with {shots} images of each class to learn from, none is left to choose hyper-parameters on; give a "
            "validation split with classes, or ask for fewer shots"
        )
    return training.rows(learned), validation.rows(chosen)


class TipAdapter(NamedTuple):
    """A zero-shot classifier with a cache of labelled images (Tip-Adapter, arXiv 2111.03930, section 3.1).

        logits = 100 · f Wᵀ + α · exp(−β (1 − f Fᵀ)) L

    classifier_KD: W, unit-norm class vectors. shots: F and L, the images that it has seen. Nothing is trained.
    """

    classifier_KD: Tensor
    shots: Labelled
    alpha: float
    beta: float

    def logits(self, images_ID: Tensor, *, chunk: int = 1024) -> Tensor:
        """Of every class [I, K]; chunk: images at once, which bounds memory at chunk x S numbers."""
        return torch.cat([self._logits(images_ID) for images_ID in images_ID.split(chunk)])

    def _logits(self, images_ID: Tensor) -> Tensor:
        return SCALE * images_ID @ self.classifier_KD.T + self.alpha * self.cached(images_ID)

    def cached(self, images_ID: Tensor) -> Tensor:
        """What the images seen say of each class: the sum of their affinities [I, K]."""
        affinity_IS = torch.exp(self.beta * (images_ID @ self.shots.images_ND.T - 1))
        return affinity_IS @ F.one_hot(self.shots.labels_N, len(self.classifier_KD)).to(affinity_IS.dtype)

    def hits(self, tested: Labelled) -> Tensor:
        """Bool: which images are right; one whose best class is tied is wrong."""
        return strictly_best(self.logits(tested.images_ND), F.one_hot(tested.labels_N, len(self.classifier_KD)).bool())


def tip_adapter(classifier_KD: Tensor, shots: Labelled, validation: Labelled) -> TipAdapter:
    """The adapter with the α and β that are best on `validation`; of equally good ones the smallest β, then α."""
    correct_IK = F.one_hot(validation.labels_N, len(classifier_KD)).bool()
    zero_shot_IK = SCALE * validation.images_ND @ classifier_KD.T
    best, most = TipAdapter(classifier_KD, shots, ALPHAS[0], BETAS[0]), -1
    for beta in BETAS:
        cached_IK = best._replace(beta=beta).cached(validation.images_ND)
        for alpha in ALPHAS:
            right = int(strictly_best(zero_shot_IK + alpha * cached_IK, correct_IK).sum())
            if right > most:
                best, most = best._replace(alpha=alpha, beta=beta), right
    return best


def _probe(
    shots: Labelled, validation: Labelled, tested: Labelled, classifier_KD: Tensor, seed: int
) -> tuple[Tensor, dict[str, float]]:
    classifier, c = logistic_probe(shots, validation)
    guesses_N = torch.from_numpy(classifier.predict(tested.images_ND.numpy()))
    return guesses_N == tested.labels_N, {"inverse_regularisation": c}


def _cache(
    shots: Labelled, validation: Labelled, tested: Labelled, classifier_KD: Tensor, seed: int
) -> tuple[Tensor, dict[str, float]]:
    adapter = tip_adapter(classifier_KD, shots, validation)
    return adapter.hits(tested), {"alpha": adapter.alpha, "beta": adapter.beta}


def _adapters(
    shots: Labelled,
    validation: Labelled,
    tested: Labelled,
    classifier_KD: Tensor,
    seed: int,
    *,
    weights: Sequence[float],
) -> tuple[Tensor, dict[str, float]]:
    fitted, chosen = fit_adapters(classifier_KD, shots, validation, weights=weights, seed=seed)
    return fitted.hits(tested), chosen


# From the images to learn from, to choose on and to test, the zero-shot classifier, and the seed of the draw: which
# images are right (bool), and what was chosen.
Learn = Callable[[Labelled, Labelled, Labelled, Tensor, int], tuple[Tensor, dict[str, float]]]
LEARNERS: dict[str, Learn] = {
    "linear-probe": _probe,
    "tip-adapter": _cache,
    "adapter": partial(_adapters, weights=(0.0,)),
    "cs-adapter": partial(_adapters, weights=DIVERGENCE_WEIGHTS),
}
