"""Zero-shot classification by prompts, as CLIP (arXiv 2103.00020, section 3.1.4) and CLIP_benchmark do it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import Benchmark, Metric, MetricRow, Needs, UnmeasurableError

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench


class Zeroshot(Benchmark):
    """Classification of images by the prompts of their classes."""

    rank = 20
    needs = Needs(("classes",))
    metrics = (
        Metric("accuracy", "Zero-shot accuracy", headline=True),
        Metric("times_chance", "Accuracy through chance", unit="ratio"),
        Metric("class_accuracy", "Accuracy by class"),
        Metric("classes", "Classes", unit="count", direction=None),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """See `zeroshot_rows`."""
        from vlalign.evaluation.prompts import zeroshot_classifier

        prompts = bench.prompts(split)
        classifier_KD = zeroshot_classifier(prompts.embeddings_CD, len(prompts.classnames))
        return zeroshot_rows(*bench.labelled(split), classifier_KD, prompts.classnames)


def zeroshot_rows(
    images_ID: "Tensor", labels_I: "Tensor", classifier_KD: "Tensor", classnames: Sequence[str]
) -> list[MetricRow]:
    """Accuracy in percent, over images and per class; an image whose best class is tied counts as wrong.

    images_ID: unit-norm image embeddings. labels_I: long, index into `classnames`. classifier_KD: unit-norm class
    vectors. classnames: one name per class, by which the accuracy of a class is called; one without images is left out.
    Raises UnmeasurableError for fewer than two classes.
    """
    import torch
    import torch.nn.functional as F

    from vlalign.evaluation.ranking import percent, strictly_best

    if (classes := len(classnames)) < 2:
        raise UnmeasurableError(f"zero-shot classification needs at least 2 classes, not {classes}")
    hits_I = strictly_best(images_ID @ classifier_KD.T, F.one_hot(labels_I, classes).bool())
    chance, accuracy = 100.0 / classes, percent(hits_I)
    rows = [
        MetricRow(metric="accuracy", value=accuracy, n=len(images_ID), chance=chance),
        MetricRow(metric="times_chance", value=accuracy / chance, n=len(images_ID), chance=1.0),
        MetricRow(metric="classes", value=classes),
    ]
    # Of two classes with one name, as in ImageNet's list, the later one stands for both.
    hits_of = {classnames[k]: hits_I[labels_I == k] for k in torch.unique(labels_I).tolist()}
    return rows + [
        MetricRow(metric="class_accuracy", group=name, value=percent(hits), n=len(hits))
        for name, hits in hits_of.items()
    ]
