"""A linear classifier of frozen image features, learned from all of a training split."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlalign.evaluation.benchmark import Benchmark, Metric, MetricRow, Needs, ScoreTable
from vlalign.params.base import Count, Few, Positive, Seed, Strict

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.probes import Labelled
    from vlalign.evaluation.workbench import Workbench


class LinearProbeParams(Strict):
    """How the probe is trained.

    `clip-benchmark` is what CLIP_benchmark 1.6.2 does in fp32, to equal numbers. It is the default: it is as repeatable
    as the other, and its cost does not grow with how hard the data are. `logistic-regression` is CLIP's own (arXiv
    2103.00020, appendix A.3), for numbers that were published so. Both choose the regularisation on the validation
    split, and then learn from the training and the validation split together.
    """

    protocol: Literal["clip-benchmark", "logistic-regression"] = "clip-benchmark"
    seed: Seed = 0
    epochs: Few = Field(default=10, description="Of clip-benchmark")
    lr: Positive = Field(default=0.1, description="Learning rate of clip-benchmark at its first step")
    batch_size: Count = Field(default=64, description="Of clip-benchmark")
    held_out: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the training split on which logistic-regression chooses C where there is no validation "
        "split; clip-benchmark then has no weight decay",
    )


ACCURACY = Metric("accuracy", "Linear probe", headline=True)
CLASS_MEAN = Metric("class_mean", "Mean over classes")
WEIGHT_DECAY = Metric("weight_decay", "Weight decay", unit="ratio", direction=None, digits=6)
INVERSE_REGULARISATION = Metric("inverse_regularisation", "C", unit="ratio", direction=None, digits=6)


class LinearProbe(Benchmark):
    """Classification of images by a linear classifier that has learned from the training split."""

    rank = 22
    Params = LinearProbeParams
    needs = Needs(("classes",), training=("classes",), optional=("classes",), apart=True)
    protocol = "a linear layer on frozen unit-norm features, learned from all of the training split"
    metrics = (
        ACCURACY,
        CLASS_MEAN,
        WEIGHT_DECAY,
        INVERSE_REGULARISATION,
        Metric("training_images", "Images to learn from", unit="count", direction=None, digits=0),
    )
    tables = (
        ScoreTable(
            "linear-probe",
            "Linear probe of image features",
            "Learned from the training split. Its regularisation was chosen on the validation split.",
            section="Probes",
            columns=(ACCURACY, CLASS_MEAN),
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """`probe_rows` of the split's images."""
        from vlalign.evaluation.probes import labelled_splits

        assert isinstance(self.params, LinearProbeParams)
        splits, classes = labelled_splits(bench, split), len(bench.classes(split).names)
        return probe_rows(*splits, classes=classes, params=self.params)


def probe_rows(
    training: "Labelled", validation: "Labelled | None", tested: "Labelled", *, classes: int, params: LinearProbeParams
) -> list[MetricRow]:
    """Accuracy in percent over images, its mean over the classes that are tested, and the regularisation chosen.

    classes: number of classes, for the chance level.
    Raises UnmeasurableError when the images to learn from are all of one class.
    """
    from vlalign.evaluation.probes import check_classes_differ
    from vlalign.evaluation.ranking import scored

    check_classes_differ(training)
    learn = _torch_probe if params.protocol == "clip-benchmark" else _logistic_probe
    guesses_N, chosen = learn(training, validation, tested.images_ND, params)
    correct_N = guesses_N == tested.labels_N
    chance, learned = 100.0 / classes, len(training.labels_N) + (0 if validation is None else len(validation.labels_N))
    return [
        scored("accuracy", correct_N, chance=chance),
        scored("class_mean", correct_N, chance=chance, blocks_N=tested.labels_N),
        MetricRow(metric="training_images", value=learned),
        *(MetricRow(metric=name, value=value) for name, value in chosen.items()),
    ]


def _torch_probe(
    training: "Labelled", validation: "Labelled | None", images_ND: "Tensor", params: LinearProbeParams
) -> "tuple[Tensor, dict[str, float]]":
    """The class of each image, and the weight decay."""
    from vlalign.evaluation.probes import Recipe, predict, torch_probe

    recipe = Recipe(params.epochs, params.lr, params.batch_size, params.seed)
    layer, weight_decay = torch_probe(training, validation, recipe)
    return predict(layer, images_ND), {"weight_decay": weight_decay}


def _logistic_probe(
    training: "Labelled", validation: "Labelled | None", images_ND: "Tensor", params: LinearProbeParams
) -> "tuple[Tensor, dict[str, float]]":
    """The class of each image, and C."""
    import torch

    from vlalign.evaluation.probes import check_classes_differ, fit_logistic, logistic_probe, shuffled

    if validation is None:
        order_N = shuffled(len(training.labels_N), params.seed)
        held_out = max(1, round(params.held_out * len(order_N)))
        training, validation = training.rows(order_N[held_out:]), training.rows(order_N[:held_out])
        check_classes_differ(training)
    _, c = logistic_probe(training, validation)
    classifier = fit_logistic(training.joined(validation), c)
    return torch.from_numpy(classifier.predict(images_ND.numpy())), {"inverse_regularisation": c}
