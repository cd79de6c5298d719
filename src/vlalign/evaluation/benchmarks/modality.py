"""How far apart the two modalities lie, and whether they got closer by collapsing."""

from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import Benchmark, Metric, MetricRow, Needs, ScoreTable, UnmeasurableError

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench

# Kernel matrices are held whole: three times 2,000 x 2,000 numbers, and more points say nothing new.
DIVERGENCE_PAIRS = 2000


class Modality(Benchmark):
    """The gap between both modalities' embeddings, and how evenly each is spread."""

    rank = 50
    needs = Needs(("pairs",))
    protocol = "one caption for each image, its first that no earlier image has"
    metrics = (
        Metric("mean_distance", "Modality gap", unit="distance", direction="lower", digits=3, headline=True),
        Metric("cs_divergence", "CS divergence", unit="nats", direction="lower", digits=3, headline=True),
        Metric("uniformity_image", "Uniformity, images", unit="nats", direction=None, digits=2),
        Metric("uniformity_text", "Uniformity, captions", unit="nats", direction=None, digits=2),
        Metric("probe_accuracy", "Linear probe tells modality", direction="lower", headline=True),
        Metric("distribution_distance", "Gap once centroids are aligned", unit="distance", direction="lower", digits=3),
    )
    tables = (
        ScoreTable(
            "shared-space",
            "The shared space of both modalities",
            "The gap is the distance of the means. What is left once these are aligned has the same unit: √D times the "
            "sliced Wasserstein distance of the centred embeddings. Uniformity stands beside them because a collapsed "
            "embedding closes the gap too: 0 is collapsed, more negative is more even.",
            section="Shared space",
            columns=metrics,
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """See `modality_rows`."""
        return modality_rows(*bench.split(split).pairs())


def modality_rows(images_ND: "Tensor", captions_ND: "Tensor") -> list[MetricRow]:
    """Gap measures of paired unit-norm embeddings, one caption per image.

    The distance of the two means is 0-2, as is that of the distributions once these are aligned; the divergence has the
    median kernel width and the first 2,000 pairs; uniformity is 0 for a collapsed embedding; the probe's accuracy is in
    percent.
    Raises UnmeasurableError for fewer than four pairs, which cannot be halved for the probe.
    """
    from vlalign.evaluation.gap import distribution_distance, probe_accuracy, uniformity
    from vlalign.objectives.divergence import cs_divergence

    if (count := len(images_ND)) < 4:
        raise UnmeasurableError(
            f"the modality gap needs at least 4 images with a caption that no other image has, not {count}"
        )
    first, firsts = images_ND[:DIVERGENCE_PAIRS], captions_ND[:DIVERGENCE_PAIRS]
    values = {
        "mean_distance": (images_ND.mean(0) - captions_ND.mean(0)).norm().item(),
        "cs_divergence": cs_divergence(first, firsts, sigma="median").item(),
        "uniformity_image": uniformity(images_ND),
        "uniformity_text": uniformity(captions_ND),
    }
    rows = [MetricRow(metric=name, value=value, n=count) for name, value in values.items()]
    rows.append(MetricRow(metric="probe_accuracy", value=probe_accuracy(images_ND, captions_ND), chance=50.0))
    apart = distribution_distance(images_ND, captions_ND)
    return [*rows, MetricRow(metric="distribution_distance", value=apart, n=count)]
