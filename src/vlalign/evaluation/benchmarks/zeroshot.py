"""Zero-shot classification by prompts, as CLIP (arXiv 2103.00020, section 3.1.4) and CLIP_benchmark do it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import Benchmark, Metric, MetricRow, Needs, ScoreTable, UnmeasurableError

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench


class Zeroshot(Benchmark):
    """Classification of images by the prompts of their classes."""

    rank = 20
    needs = Needs(("classes",))
    protocol = "normalised prompts, mean over templates, normalised again; ties count against the model"
    metrics = (
        Metric("accuracy", "Zero-shot accuracy", headline=True),
        Metric("accuracy_5", "Zero-shot accuracy, top 5"),
        Metric("class_mean", "Zero-shot accuracy, mean over classes"),
        Metric("accuracy_shuffled", "Zero-shot accuracy, labels shuffled", direction=None),
        Metric("times_chance", "Accuracy through chance", unit="ratio"),
        Metric("class_accuracy", "Accuracy by class"),
        Metric("classes", "Classes", unit="count", direction=None),
    )
    tables = (
        ScoreTable(
            "zeroshot",
            "Zero-shot classification",
            "Over images, in the best five, and over classes. With shuffled labels only luck is above chance.",
            section="Zero-shot classification",
            columns=(
                replace(metrics[0], label="accuracy"),
                replace(metrics[1], label="top 5"),
                replace(metrics[2], label="mean over classes"),
                replace(metrics[3], label="labels shuffled"),
            ),
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """See `zeroshot_rows`."""
        return zeroshot_rows(*bench.labelled(split), bench.classifier(split), bench.prompts(split).classnames)


def zeroshot_rows(
    images_ID: "Tensor", labels_I: "Tensor", classifier_KD: "Tensor", classnames: Sequence[str]
) -> list[MetricRow]:
    """Accuracy in percent, over images, in the best five, over classes, and of each class; ties count as wrong.

    images_ID: unit-norm image embeddings. labels_I: long, index into `classnames`. classifier_KD: unit-norm class
    vectors. classnames: one name per class, by which the accuracy of a class is called; one without images is left out.
    "class_mean" is CLIP_benchmark's mean per class recall; top 5 needs five classes.
    Raises UnmeasurableError for fewer than two classes.
    """
    import torch

    from vlalign.evaluation.ranking import percent, scored

    if (classes := len(classnames)) < 2:
        raise UnmeasurableError(f"zero-shot classification needs at least 2 classes, not {classes}")
    ranks_I = label_ranks(images_ID, labels_I, classifier_KD)
    hits_I, chance = ranks_I == 0, 100.0 / classes
    accuracy = scored("accuracy", hits_I, chance=chance)
    ratio = accuracy.value / chance
    rows = [
        accuracy,
        *([scored("accuracy_5", ranks_I < 5, chance=5 * chance)] if classes >= 5 else []),
        scored("class_mean", hits_I, chance=chance, blocks_N=labels_I),
        # Far above chance would say that something else than the pictures is measured.
        scored("accuracy_shuffled", label_ranks(images_ID, shuffled(labels_I), classifier_KD) == 0, chance=chance),
        MetricRow(metric="times_chance", value=ratio, n=len(images_ID), chance=1.0),
        MetricRow(metric="classes", value=classes),
    ]
    # Of two classes with one name, as in ImageNet's list, the later one stands for both.
    hits_of = {classnames[k]: hits_I[labels_I == k] for k in torch.unique(labels_I).tolist()}
    return rows + [
        MetricRow(metric="class_accuracy", group=name, value=percent(hits), n=len(hits))
        for name, hits in hits_of.items()
    ]


def shuffled(labels_I: "Tensor") -> "Tensor":
    """The labels in an order that is always the same."""
    import torch

    return labels_I[torch.randperm(len(labels_I), generator=torch.Generator().manual_seed(0))]


def label_ranks(images_ID: "Tensor", labels_I: "Tensor", classifier_KD: "Tensor", *, chunk: int = 4096) -> "Tensor":
    """How many other classes score at least as high as the image's own, up to rounding: long [I].

    chunk: images compared at once; bounds memory at chunk x K similarities.
    """
    import torch

    from vlalign.evaluation.ranking import TIE

    ranks = []
    for images, labels in zip(images_ID.split(chunk), labels_I.split(chunk), strict=True):
        scores = images @ classifier_KD.T
        own = scores.gather(1, labels[:, None])
        others = scores.scatter(1, labels[:, None], -torch.inf)
        # NaN is no better than anything: all others stand before it.
        ranks.append((~(own > others + TIE)).sum(1))
    return torch.cat(ranks)
