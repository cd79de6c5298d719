"""Image-text retrieval: R@1, R@5 and R@10 in both directions, over the whole split and within each stratum."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import ALL, Benchmark, Metric, MetricRow, Needs, ScoreTable, UnmeasurableError

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench

IMAGES = Metric("images", "images", unit="count", direction=None)
CAPTIONS = Metric("captions", "captions", unit="count", direction=None)
RECALLS = tuple(
    Metric(f"{way}_r{k}", f"{label} R@{k}", headline=k == 1)
    for way, label in (("image_to_text", "Image → text"), ("text_to_image", "Text → image"))
    for k in (1, 5, 10)
)


# Of the embeddings that open_clip's own pooling gives, where they are others.
IN_OPEN_CLIP = tuple(
    Metric(f"{way}_r1_in_open_clip", f"{label} R@1 in open_clip")
    for way, label in (("image_to_text", "Image → text"), ("text_to_image", "Text → image"))
)


class Retrieval(Benchmark):
    """Image-text retrieval in both directions, in the whole gallery and in that of each stratum."""

    rank = 10
    needs = Needs(("pairs",))
    protocol = "R@K: any of an image's captions among the K best; ties count against the model"
    metrics = (IMAGES, CAPTIONS, *RECALLS, *IN_OPEN_CLIP)
    tables = (
        ScoreTable(
            "retrieval",
            "Retrieval by stratum",
            "Each stratum is searched within its own gallery, so its numbers are not parts of the whole.",
            section="Retrieval",
            columns=RECALLS,
            counted=IMAGES,
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """See `retrieval_rows`."""
        features = bench.split(split)
        rows = retrieval_rows(features.images_ID, features.captions_CD, features.caption_image_C, features.strata)
        own = bench.in_open_clip(split)
        return rows if own is None else rows + open_clip_rows(*own, features.caption_image_C)


def open_clip_rows(images_ID: "Tensor", captions_CD: "Tensor", caption_image_C: "Tensor") -> list[MetricRow]:
    """R@1 over everything of the embeddings that open_clip's own pooling gives; see `recall_hits`."""
    from vlalign.evaluation.ranking import percent
    from vlalign.evaluation.recall import recall_chance, recall_hits

    hits = recall_hits(images_ID, captions_CD, caption_image_C)
    chances = recall_chance(len(images_ID), caption_image_C)
    return [
        MetricRow(metric=f"{way}_r1_in_open_clip", value=percent(found), n=len(found), chance=chances[way, k])
        for (way, k), found in hits.items()
        if k == 1
    ]


def retrieval_rows(
    images_ID: "Tensor", captions_CD: "Tensor", caption_image_C: "Tensor", strata: Sequence[str | None]
) -> list[MetricRow]:
    """`recall_hits` over everything and per stratum, the gallery restricted to the stratum.

    images_ID, captions_CD: unit-norm embeddings. caption_image_C: long, the image of each caption. strata: one name per
    image; None puts an image into `ALL` only. Raises UnmeasurableError for a gallery of one image.
    """
    import torch

    from vlalign.evaluation.ranking import scored
    from vlalign.evaluation.recall import recall_chance, recall_hits

    if len(images_ID) < 2:
        raise UnmeasurableError(f"retrieval needs at least 2 images, not {len(images_ID)}")
    rows = []
    for stratum in (ALL, *sorted({name for name in strata if name is not None})):
        inside_I = torch.tensor([stratum in (ALL, name) for name in strata])
        inside_C, position_I = inside_I[caption_image_C], inside_I.cumsum(0) - 1
        gallery = (images_ID[inside_I], captions_CD[inside_C], position_I[caption_image_C[inside_C]])
        rows += [MetricRow(metric="images", value=len(gallery[0]), stratum=stratum)]
        rows += [MetricRow(metric="captions", value=len(gallery[1]), stratum=stratum)]
        chances = recall_chance(len(gallery[0]), gallery[2])
        rows += [
            scored(f"{way}_r{k}", hits, stratum=stratum, chance=chances[way, k])
            for (way, k), hits in recall_hits(*gallery).items()
        ]
    return rows
