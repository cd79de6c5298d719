"""Adapters that learn from few images of each class, by cross-entropy and the Cauchy-Schwarz divergence (CS-Aligner).

Suffixes: I images, D embedding, K classes.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.evaluation.probes import Labelled, shuffled
from vlalign.evaluation.ranking import strictly_best
from vlalign.models.adapters import Adapters, TowerFeatures
from vlalign.objectives import cs_divergence
from vlalign.params import AdapterParams

# CLIP's own scale of similarities, to which its temperature is clipped; Tip-Adapter's too.
SCALE = 100.0
HIDDEN, BATCH = 256, 256
# What is tried: numbers of steps are those after which one training is looked at.
LEARNING_RATES, STEPS, DIVERGENCE_WEIGHTS = (1e-4, 1e-3), (10, 30, 100, 200), (0.1, 1.0, 10.0)
# Of the kernels, for unit vectors.
SIGMA = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class AdaptedClassifier:
    """A zero-shot classifier in the space of adapters: logits = 100 · g(f) h(W)ᵀ, both at unit length.

    classifier_KD: W, unit-norm class vectors. adapters: g of images and h of class vectors.
    """

    classifier_KD: Tensor
    adapters: Adapters

    def embedded(self, images_ID: Tensor) -> tuple[Tensor, Tensor]:
        """Images [I, D] and class vectors [K, D] as unit vectors of the adapters' space."""
        images_ID, _ = self.adapters.image(TowerFeatures.without_tokens(images_ID))
        classes_KD, _ = self.adapters.text(TowerFeatures.without_tokens(self.classifier_KD))
        return F.normalize(images_ID, dim=-1), F.normalize(classes_KD, dim=-1)

    def loss(self, shots: Labelled, *, weight: float) -> Tensor:
        """Cross-entropy of the classes, plus `weight` times D_CS of the images and the class vectors, unpaired."""
        images_ID, classes_KD = self.embedded(shots.images_ND)
        loss = F.cross_entropy(SCALE * images_ID @ classes_KD.T, shots.labels_N)
        return loss + weight * cs_divergence(images_ID, classes_KD, sigma=SIGMA) if weight else loss

    @torch.no_grad()
    def hits(self, tested: Labelled) -> Tensor:
        """Bool: which images are right; one whose best class is tied is wrong."""
        images_ID, classes_KD = self.embedded(tested.images_ND)
        return strictly_best(SCALE * images_ID @ classes_KD.T, F.one_hot(tested.labels_N, len(classes_KD)).bool())


def fit_adapters(
    classifier_KD: Tensor, shots: Labelled, validation: Labelled, *, weights: Sequence[float], seed: int
) -> tuple[AdaptedClassifier, dict[str, float]]:
    """The classifier with the weight of D_CS, the learning rate and the steps that are best on `validation`, and these;
    of equally good ones the first that was tried.
    """
    best: AdaptedClassifier | None = None
    chosen, most = dict[str, float](), -1
    for weight in weights:
        for learning_rate in LEARNING_RATES:
            for steps, trained in training(classifier_KD, shots, learning_rate=learning_rate, weight=weight, seed=seed):
                if (right := int(trained.hits(validation).sum())) > most:
                    best, most = copy.deepcopy(trained), right
                    chosen = {"learning_rate": learning_rate, "steps": steps, "divergence_weight": weight}
    assert best is not None
    return best, chosen


def training(
    classifier_KD: Tensor, shots: Labelled, *, learning_rate: float, weight: float, seed: int
) -> Iterator[tuple[int, AdaptedClassifier]]:
    """The classifier after each number of `STEPS`; it is the same object, which goes on learning.

    AdamW without weight decay, on batches of shuffled images beside all class vectors. Depends on seed and data alone;
    the generator of the process is left as it was.
    """
    width = classifier_KD.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapters = Adapters(width, width, AdapterParams(dimension=width, hidden=HIDDEN))
    classifier = AdaptedClassifier(classifier_KD, adapters)
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=learning_rate, weight_decay=0)
    for step, batch in enumerate(_batches(len(shots.labels_N), STEPS[-1], seed), start=1):
        optimizer.zero_grad()
        classifier.loss(shots.rows(batch), weight=weight).backward()
        optimizer.step()
        if step in STEPS:
            yield step, classifier


def _batches(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows of each step: all, or `BATCH` at a time of one order after another, incomplete batches at their ends."""
    epoch = 0
    while steps > 0:
        for rows in shuffled(count, seed + epoch).split(BATCH)[:steps]:
            steps -= 1
            yield rows
        epoch += 1
