"""Compositional hard negatives: SugarCrepe's accuracy, and Winoground's scores where the negative has an image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import EACH, Benchmark, Metric, MetricRow, Needs, ScoreTable

if TYPE_CHECKING:
    from torch import Tensor

    from vlalign.evaluation.workbench import Workbench

ACCURACY = Metric("accuracy", "Accuracy")
MICRO, MACRO = Metric("micro", "Mean over items"), Metric("macro", "Hard negatives", headline=True)
GROUP = Metric("group", "Group score", headline=True)
# Four independent scores satisfy the two inequalities of "text", or of "image", in 6 of their 24 orders, all four in 4.
CHANCE = {"accuracy": 50.0, "text": 25.0, "image": 25.0, "group": 100 / 6}


class Composition(Benchmark):
    """Captions against hard negatives of several categories."""

    rank = 30
    needs = Needs(("composition",))
    protocol = "the true caption must score strictly higher than the negative: a model that cannot tell gets nothing"
    metrics = (ACCURACY, MICRO, MACRO, Metric("text", "Text score"), Metric("image", "Image score"), GROUP)
    tables = (
        ScoreTable(
            "composition",
            "Hard negatives by category",
            "Share of items whose true caption scores strictly higher than its negative. Group: both captions and both "
            "images of a pair are right.",
            section="Hard negatives",
            columns=(
                replace(ACCURACY, group=EACH),
                replace(MICRO, label="micro mean"),
                replace(MACRO, label="macro mean"),
                replace(GROUP, label="group score"),
            ),
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """See `composition_rows`."""
        from vlalign.evaluation.hard_negatives import item_similarities

        categories, images, captions = bench.composition(split)
        return composition_rows({name: item_similarities(each, images, captions) for name, each in categories.items()})


def composition_rows(categories: "Mapping[str, tuple[Tensor, Tensor]]") -> list[MetricRow]:
    """`category_hits` in percent per category, then "micro" (over items), "macro" (over categories), the mean "group".

    The mean "group" is over the categories that have pairs, and left out when none has. Empty categories are left out.
    """
    import torch

    from vlalign.evaluation.hard_negatives import category_hits
    from vlalign.evaluation.ranking import scored

    rows = [
        scored(metric, hits, group=name, chance=CHANCE[metric])
        for name, tensors in categories.items()
        if len(tensors[0])
        for metric, hits in category_hits(*tensors).items()
    ]
    answers, groups = ([row for row in rows if row.metric == metric] for metric in ("accuracy", "group"))
    items = torch.cat([torch.from_numpy(row.items) for row in answers])
    rows.append(scored("micro", items, chance=CHANCE["accuracy"]))
    rows.append(_mean_over("macro", answers, chance=CHANCE["accuracy"]))
    if groups:
        rows.append(_mean_over("group", groups, chance=CHANCE["group"]))
    return rows


def _mean_over(metric: str, rows: Sequence[MetricRow], *, chance: float) -> MetricRow:
    """The mean over categories, each of which counts as much as the others."""
    import numpy as np

    value = sum(row.value for row in rows) / len(rows)
    blocks = np.repeat(np.arange(len(rows)), [len(row.items) for row in rows])
    items = np.concatenate([row.items for row in rows])
    return MetricRow(metric=metric, value=value, n=len(rows), chance=chance, items=items, blocks=blocks)
