"""Linear probes of frozen image features, and how their regularisation is chosen.

Suffixes: N images, D embedding, K classes.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from vlalign.evaluation.benchmark import TRAINING_SPLIT, TUNING_SPLIT, UnmeasurableError

if TYPE_CHECKING:
    from vlalign.evaluation.workbench import Workbench

logger = logging.getLogger(__name__)

# CLIP_benchmark's weight decays, of which every 16th is tried first.
WEIGHT_DECAYS = tuple(np.logspace(-6, 2, num=97).tolist())
COARSE, SPAN = 16, 8
# Exponents of C that CoOp tries first, and how often it halves the interval around the best.
EXPONENTS, HALVINGS = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0), 8
MOST_ITERATIONS = 1000


class Labelled(NamedTuple):
    """Unit-norm embeddings of images, and the class of each (long)."""

    images_ND: Tensor
    labels_N: Tensor

    def rows(self, chosen: Sequence[int] | Tensor) -> "Labelled":
        """Some of the images, in that order."""
        index = torch.as_tensor(chosen, dtype=torch.long)
        return Labelled(self.images_ND[index], self.labels_N[index])

    def joined(self, other: "Labelled") -> "Labelled":
        """These images, then the others."""
        return Labelled(torch.cat([self.images_ND, other.images_ND]), torch.cat([self.labels_N, other.labels_N]))


def labelled_splits(bench: "Workbench", split: str) -> tuple[Labelled, Labelled | None, Labelled]:
    """The images to learn from, those on which hyper-parameters are chosen, if there are any, and those to test.

    Raises UnmeasurableError where a class has another name in one of these splits.
    """
    bench.same_classes(split, TRAINING_SPLIT)
    training, validation = Labelled(*bench.labelled(TRAINING_SPLIT)), None
    if bench.has("classes", TUNING_SPLIT):
        bench.same_classes(split, TUNING_SPLIT)
        validation = Labelled(*bench.labelled(TUNING_SPLIT))
    return training, validation, Labelled(*bench.labelled(split))


class Recipe(NamedTuple):
    """How CLIP_benchmark trains a linear layer: its defaults."""

    epochs: int = 10
    lr: float = 0.1
    batch_size: int = 64
    seed: int = 0


def check_classes_differ(training: Labelled) -> None:
    """Raises UnmeasurableError where the images to learn from are all of one class."""
    if (found := len(training.labels_N.unique())) < 2:
        raise UnmeasurableError(f"a probe needs images of at least 2 classes to learn from, not of {found}")


def torch_probe(training: Labelled, validation: Labelled | None, recipe: Recipe) -> tuple[torch.nn.Linear, float]:
    """CLIP_benchmark's linear probe and the weight decay that it chose, equal to `metrics.linear_probe.evaluate` of
    release 1.6.2 in fp32, called on cached features right after `torch.manual_seed(seed)`.

    The weight decay is the best on `validation`, and the last training is on both; without it there is none.
    """
    training = training.rows(shuffled(len(training.labels_N), recipe.seed))
    if validation is None:
        return train_linear(training, int(training.labels_N.max()) + 1, 0.0, recipe), 0.0
    both = training.joined(validation)
    classes = int(both.labels_N.max()) + 1

    @cache
    def accuracy(index: int) -> float:
        layer = train_linear(training, classes, WEIGHT_DECAYS[index], recipe)
        return (predict(layer, validation.images_ND) == validation.labels_N).double().mean().item()

    weight_decay = WEIGHT_DECAYS[best_weight_decay(accuracy)]
    return train_linear(both, classes, weight_decay, recipe), weight_decay


def best_weight_decay(accuracy: Callable[[int], float]) -> int:
    """The index of the weight decay with the best accuracy: the best of a coarse grid, then ever nearer to its best."""
    last = len(WEIGHT_DECAYS) - 1
    peak, span = _first_best(range(0, last + 1, COARSE), accuracy), SPAN
    while span:
        peak = _first_best((max(peak - span, 0), peak, min(peak + span, last)), accuracy)
        span //= 2
    return peak


def _first_best(indices: Sequence[int], accuracy: Callable[[int], float]) -> int:
    """Like CLIP_benchmark, the very first weight decay where none has anything right."""
    best = max(indices, key=accuracy)
    return best if accuracy(best) > 0 else 0


def train_linear(data: Labelled, classes: int, weight_decay: float, recipe: Recipe) -> torch.nn.Linear:
    """A linear layer trained with AdamW on cross-entropy, the learning rate falling along a cosine.

    Random numbers are drawn in CLIP_benchmark's order, so that equal data and seed give its weights; the generator of
    the process is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        layer = torch.nn.Linear(data.images_ND.shape[1], classes)
        batches = _batches(data, recipe.batch_size)
        steps = recipe.epochs * len(batches)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=recipe.lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + float(np.cos(np.pi * step / steps)))
        )
        for _ in range(recipe.epochs):
            for images_ND, labels_N in batches:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(layer(images_ND), labels_N).backward()
                optimizer.step()
                schedule.step()
    return layer


def _batches(data: Labelled, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
    """Shuffled batches. Each is cut out at once, which is many times faster than image by image."""
    dataset = TensorDataset(*data)
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(RandomSampler(dataset), batch_size, False))


def shuffled(count: int, seed: int) -> Tensor:
    """The numbers below `count` in an order that depends on the seed alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predict(layer: torch.nn.Linear, images_ND: Tensor) -> Tensor:
    """The class of each image, long [N]."""
    found: Tensor = layer(images_ND).argmax(1)
    return found


def logistic_probe(training: Labelled, validation: Labelled) -> tuple[LogisticRegression, float]:
    """Logistic regression on `training` (L-BFGS, L2 penalty 1 / C), and the C that is best on `validation`.

    The search is that of CoOp's code (arXiv 2109.01134), after appendix A.3 of CLIP (arXiv 2103.00020): seven powers of
    100, then eight halvings around the best.
    """

    @cache
    def fitted(exponent: float) -> LogisticRegression:
        return fit_logistic(training, 10.0**exponent)

    @cache
    def accuracy(exponent: float) -> float:
        return float(fitted(exponent).score(validation.images_ND.numpy(), validation.labels_N.numpy()))

    exponent = best_exponent(accuracy)
    return fitted(exponent), 10.0**exponent


def best_exponent(accuracy: Callable[[float], float]) -> float:
    """The exponent of C with the best accuracy: the best of a coarse grid, then of two ever nearer neighbours."""
    peak = max(EXPONENTS, key=accuracy)
    low, high = peak - 1, peak + 1
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        best = high if accuracy(high) > accuracy(low) else low
        low, high = (middle, high) if best == high else (low, middle)
    return best


def fit_logistic(data: Labelled, c: float) -> LogisticRegression:
    """Logistic regression with inverse regularisation `c`; one that has not converged is logged."""
    classifier = LogisticRegression(C=c, max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # One image of each class looks like regression to scikit-learn.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        classifier.fit(data.images_ND.numpy(), data.labels_N.numpy())
    if classifier.n_iter_.max() >= MOST_ITERATIONS:
        logger.info("logistic regression with C = %g stopped after %d iterations", c, MOST_ITERATIONS)
    return classifier
