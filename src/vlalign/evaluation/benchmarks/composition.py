"""Compositional hard negatives: SugarCrepe's accuracy, and Winoground's scores where the negative has an image."""

from collections.abc import Mapping
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
    from vlalign.evaluation.hard_negatives import category_hits
    from vlalign.evaluation.ranking import percent

    rows = [
        MetricRow(metric=metric, group=name, value=percent(hits), n=len(hits), chance=CHANCE[metric])
        for name, tensors in categories.items()
        if len(tensors[0])
        for metric, hits in category_hits(*tensors).items()
    ]
    each = [(row.value, row.n or 0) for row in rows if row.metric == "accuracy"]
    items, groups = sum(n for _, n in each), [row.value for row in rows if row.metric == "group"]
    micro, macro = sum(value * n for value, n in each) / items, sum(value for value, _ in each) / len(each)
    rows.append(MetricRow(metric="micro", value=micro, n=items, chance=CHANCE["accuracy"]))
    rows.append(MetricRow(metric="macro", value=macro, n=len(each), chance=CHANCE["accuracy"]))
    if groups:
        mean = sum(groups) / len(groups)
        rows.append(MetricRow(metric="group", value=mean, n=len(groups), chance=CHANCE["group"]))
    return rows
