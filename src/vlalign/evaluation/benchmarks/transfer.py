"""What a shared space is for: a gallery of both modalities, and a classifier that moves from images to text."""

from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import (
    TUNING_SPLIT,
    Benchmark,
    Metric,
    MetricRow,
    Needs,
    ScoreTable,
    UnmeasurableError,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench


class Transfer(Benchmark):
    """A gallery of images and captions together, and a linear classifier of images that is applied to text."""

    rank = 60
    needs = Needs(("pairs", "classes"), tuning=("classes",), apart=True)
    metrics = (
        Metric("mixed_image_to_text_r1", "Mixed-gallery R@1", headline=True),
        Metric("mixed_text_to_image_r1", "Mixed-gallery R@1, text → image"),
        Metric("classifier_on_images", "Classifier on images"),
        Metric("classifier_on_text", "Classifier moved to text", headline=True),
        Metric("classes", "Classes", unit="count", direction=None),
    )
    tables = (
        ScoreTable(
            "transfer",
            "What moves between the modalities",
            "Mixed gallery: images and captions together, the query left out. The classifier is trained on image "
            "embeddings of the validation split.",
            section="Shared space",
            columns=metrics[:4],
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """`mixed_gallery_rows`, and `classifier_rows` of a classifier trained on the tuning split."""
        bench.same_classes(split, TUNING_SPLIT)
        prompts, gallery = bench.prompts(split), mixed_gallery_rows(*bench.split(split).pairs())
        tests = {"images": bench.labelled(split), "text": (prompts.embeddings_CD, prompts.labels_C)}
        return gallery + classifier_rows(bench.labelled(TUNING_SPLIT), tests, classes=len(prompts.classnames))


def mixed_gallery_rows(images_ND: "Tensor", captions_ND: "Tensor") -> list[MetricRow]:
    """`mixed_hits` in both directions, one caption per image; raises UnmeasurableError for fewer than two pairs."""
    from vlalign.evaluation.ranking import scored
    from vlalign.evaluation.recall import mixed_hits

    if (count := len(images_ND)) < 2:
        raise UnmeasurableError(
            f"a mixed gallery needs at least 2 images with a caption that no other image has, not {count}"
        )
    return [
        scored("mixed_image_to_text_r1", mixed_hits(images_ND, captions_ND), chance=100.0 / (2 * count - 1)),
        scored("mixed_text_to_image_r1", mixed_hits(captions_ND, images_ND), chance=100.0 / (2 * count - 1)),
    ]


def classifier_rows(
    train: "tuple[Tensor, Tensor]", tests: "dict[str, tuple[Tensor, Tensor]]", *, classes: int
) -> list[MetricRow]:
    """Accuracy in percent of a linear classifier trained on image embeddings.

    train: embeddings [N, D] and labels [N] (long) of the images to learn from. tests: the same for what is classified:
    other "images", and the "text" of the class prompts. classes: number of classes, for the chance level.
    Raises UnmeasurableError when the images to learn from are all of one class.
    """
    import torch

    from vlalign.evaluation.gap import linear_classifier
    from vlalign.evaluation.ranking import scored

    if (found := len(train[1].unique())) < 2:
        raise UnmeasurableError(f"a classifier needs images of at least 2 classes to learn from, not of {found}")
    classifier = linear_classifier().fit(train[0].numpy(), train[1].numpy())
    rows = [MetricRow(metric="classes", value=classes)]
    for name, (features_ND, labels_N) in tests.items():
        hits_N = torch.from_numpy(classifier.predict(features_ND.numpy()) == labels_N.numpy())
        rows.append(scored(f"classifier_on_{name}", hits_N, chance=100.0 / classes))
    return rows
