"""Classification learned from a few images of each class, after CoOp (arXiv 2109.01134, section 4.1)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from vlalign.evaluation.benchmark import EACH, Benchmark, Metric, MetricRow, Needs, ScoreTable
from vlalign.params.base import Few, Seed, Strict

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.probes import Labelled
    from vlalign.evaluation.workbench import Workbench

Learner = Literal["linear-probe", "tip-adapter", "adapter", "cs-adapter"]


class FewShotParams(Strict):
    """How many images are learned from, how often they are drawn, and what learns from them.

    `linear-probe` is logistic regression of unit-norm features, its C chosen as CoOp does. `tip-adapter` adds a cache
    of the images to the zero-shot classifier, without training (arXiv 2111.03930). `adapter` trains residual MLPs on
    images and class vectors by cross-entropy, and `cs-adapter` adds the Cauchy-Schwarz divergence between both
    (CS-Aligner, arXiv 2502.17028); rate, steps and weight are chosen. Images are not augmented. All choose
    hyper-parameters on min(shots, 4) images of each class: of the validation split, or, where there is none, of what is
    left of the training split.
    """

    shots: Annotated[tuple[Few, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    learners: Annotated[tuple[Learner, ...], Field(min_length=1)] = ("linear-probe", "tip-adapter")

    @model_validator(mode="after")
    def _nothing_twice(self) -> "FewShotParams":
        for key in ("shots", "seeds", "learners"):
            if len(set(given := getattr(self, key))) < len(given):
                raise ValueError(f"{key}: name each once")
        return self


# The shots and learners that lead the report, and the group of the classifier that has seen no image.
LEADING, ZERO = 16, "zero_shot"
ACCURACY = Metric("accuracy", "Few-shot accuracy")


def group_of(learner: str, shots: int) -> str:
    """Such as `linear_probe_16_shots`."""
    return f"{learner.replace('-', '_')}_{shots}_shots"


class FewShot(Benchmark):
    """Classifiers that have seen a few images of each class, tested on the whole split."""

    rank = 24
    Params = FewShotParams
    needs = Needs(("classes",), training=("classes",), optional=("classes",), apart=True)
    protocol = "mean over draws of the images to learn from; hyper-parameters are chosen on at most 4 others of a class"
    metrics = (
        replace(ACCURACY, label="Linear probe, 16 shots", group=group_of("linear-probe", LEADING), headline=True),
        replace(ACCURACY, label="Tip-Adapter, 16 shots", group=group_of("tip-adapter", LEADING), headline=True),
        Metric("seed_accuracy", "Accuracy of one draw"),
        Metric("inverse_regularisation", "C", unit="ratio", direction=None, digits=6),
        Metric("alpha", "α", unit="ratio", direction=None, digits=2),
        Metric("beta", "β", unit="ratio", direction=None, digits=2),
        Metric("learning_rate", "Learning rate", unit="ratio", direction=None, digits=4),
        Metric("steps", "Steps", unit="count", direction=None, digits=0),
        Metric("divergence_weight", "Weight of D_CS", unit="ratio", direction=None, digits=1),
        Metric("training_images", "Images to learn from", unit="count", direction=None, digits=0),
        Metric("validation_images", "Images to choose on", unit="count", direction=None, digits=0),
    )
    tables = (
        ScoreTable(
            "few-shot",
            "Few-shot classification",
            "Accuracy by learner and images of each class, the mean over draws of these images. Hyper-parameters were "
            "chosen on at most 4 images of each class.",
            section="Probes",
            columns=(replace(ACCURACY, group=EACH),),
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """`few_shot_rows` of the split's images."""
        from vlalign.evaluation.probes import labelled_splits

        assert isinstance(self.params, FewShotParams)
        return few_shot_rows(*labelled_splits(bench, split), bench.classifier(split), self.params)


def few_shot_rows(
    training: "Labelled",
    validation: "Labelled | None",
    tested: "Labelled",
    classifier_KD: "Tensor",
    params: FewShotParams,
) -> list[MetricRow]:
    """Accuracy in percent of the zero-shot classifier, and of each learner by shots: mean over seeds, and each seed's.

    classifier_KD: unit-norm class vectors, which also say how many classes there are.
    Raises UnmeasurableError where an episode has one class alone, or nothing to choose hyper-parameters on.
    """
    import torch.nn.functional as F

    from vlalign.evaluation.few_shots import episode
    from vlalign.evaluation.probes import check_classes_differ
    from vlalign.evaluation.ranking import scored, strictly_best

    check_classes_differ(training)
    draws = {(k, seed): episode(training, validation, k, seed) for k in params.shots for seed in params.seeds}
    correct_IK = F.one_hot(tested.labels_N, len(classifier_KD)).bool()
    zero_shot_I = strictly_best(tested.images_ND @ classifier_KD.T, correct_IK)
    rows = [scored("accuracy", zero_shot_I, group=ZERO, chance=100.0 / len(classifier_KD))]
    for learner in params.learners:
        for shots in params.shots:
            of_shots = {seed: draws[shots, seed] for seed in params.seeds}
            rows += _learner_rows(learner, shots, of_shots, tested, classifier_KD)
    for shots in params.shots:
        counts = (len(part.labels_N) for part in draws[shots, params.seeds[0]])
        for name, count in zip(("training_images", "validation_images"), counts, strict=True):
            rows.append(MetricRow(metric=name, group=f"{shots}_shots", value=count))
    return rows


def _learner_rows(
    learner: Learner,
    shots: int,
    draws: "Mapping[int, tuple[Labelled, Labelled]]",
    tested: "Labelled",
    classifier_KD: "Tensor",
) -> list[MetricRow]:
    """One learner's mean over the draws, of which an image scores the share that got it right, then each draw's
    accuracy and hyper-parameters.
    """
    import torch

    from vlalign.evaluation.few_shots import LEARNERS
    from vlalign.evaluation.ranking import percent, scored

    each, hits = [], []
    for seed, (learned, chosen_on) in draws.items():
        hits_I, chosen = LEARNERS[learner](learned, chosen_on, tested, classifier_KD, seed)
        hits.append(hits_I)
        found = {"seed_accuracy": percent(hits_I), **chosen}
        group = f"{group_of(learner, shots)}_seed_{seed}"
        each += [MetricRow(metric=name, group=group, value=value) for name, value in found.items()]
    shares_I = torch.stack(hits).double().mean(0)
    chance = 100.0 / len(classifier_KD)
    return [scored("accuracy", shares_I, group=group_of(learner, shots), chance=chance), *each]
