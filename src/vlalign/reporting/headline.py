"""The few metrics that tables, figures and the summary lead with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Chance = Callable[[Mapping[str, float]], float | None]


def _unknown(means: Mapping[str, float]) -> float | None:
    return None


def _constant(percent: float) -> Chance:
    return lambda means: percent


def _reported(path: str) -> Chance:
    return lambda means: means.get(path)


def _one_in(path: str) -> Chance:
    return lambda means: 100 / means[path] if means.get(path) else None


@dataclass(frozen=True)
class Metric:
    """One column: its flattened path in metrics.json, its name for readers and the direction that is better.

    `higher_is_better` None means that neither direction is. `chance` takes the mean metrics of a run and gives what
    guessing scores, in the unit of the metric, or None.
    """

    path: str
    label: str
    higher_is_better: bool | None = True
    chance: Chance = _unknown
    digits: int = 1

    @property
    def benchmark(self) -> str:
        """First part of the path: the name of the file that the metric came from."""
        return self.path.partition(".")[0]

    @property
    def in_percent(self) -> bool:
        """False for measures of geometry, which have scales of their own."""
        return self.benchmark != "modality" or self.path.endswith("probe_accuracy")

    @property
    def key(self) -> str:
        """Rest of the path as one name, without the parts that only say that nothing was left out."""
        return "_".join(part for part in self.path.split(".")[1:] if part not in ("all", "centred"))


HEADLINE = (
    Metric("retrieval.all.image_to_text_r1", "Image → text R@1", chance=_one_in("retrieval.all.images")),
    Metric("retrieval.all.text_to_image_r1", "Text → image R@1", chance=_one_in("retrieval.all.images")),
    Metric("zeroshot.accuracy", "Zero-shot accuracy", chance=_reported("zeroshot.chance")),
    Metric("composition.macro", "Hard negatives", chance=_constant(50)),
    # Four independent scores satisfy all four group inequalities in 4 of their 24 orders.
    Metric("composition.group", "Group score", chance=_constant(100 / 6)),
    Metric("grounding.centred.all.top_k", "Grounding top-k", chance=_reported("grounding.centred.all.chance_top_k")),
    Metric(
        "grounding.centred.multiple.top_k",
        "Several referents, top-k",
        chance=_reported("grounding.centred.multiple.chance_top_k"),
    ),
    Metric("grounding.centred.multiple.exact", "Several referents, exact set"),
    Metric("grounding.centred.pointing.accuracy", "Pointing", chance=_reported("grounding.centred.pointing.chance")),
    Metric("modality.mean_distance", "Modality gap", higher_is_better=False, digits=3),
    Metric("transfer.mixed_image_to_text_r1", "Mixed-gallery R@1"),
    Metric("transfer.classifier_on_text", "Classifier moved to text", chance=_reported("transfer.chance")),
)

SHARED_SPACE = (
    Metric("modality.mean_distance", "Distance of means", higher_is_better=False, digits=3),
    Metric("modality.cs_divergence", "CS divergence", higher_is_better=False, digits=3),
    Metric("modality.uniformity_image", "Uniformity, images", higher_is_better=None, digits=2),
    Metric("modality.uniformity_text", "Uniformity, captions", higher_is_better=None, digits=2),
    Metric(
        "modality.probe_accuracy",
        "Linear probe tells modality",
        higher_is_better=False,
        chance=_reported("modality.probe_chance"),
    ),
    Metric("transfer.mixed_image_to_text_r1", "Mixed gallery, image → text R@1"),
    Metric("transfer.mixed_text_to_image_r1", "Mixed gallery, text → image R@1"),
    Metric("transfer.classifier_on_images", "Classifier on images", chance=_reported("transfer.chance")),
    Metric("transfer.classifier_on_text", "same classifier on text", chance=_reported("transfer.chance")),
)
