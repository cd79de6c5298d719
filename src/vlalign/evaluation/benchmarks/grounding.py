"""Grounding: does a phrase score its own referents above the image's other regions and patches?"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlalign.evaluation.benchmark import (
    ALL,
    EACH,
    TUNING_SPLIT,
    AbsentError,
    Benchmark,
    Metric,
    MetricRow,
    Needs,
    ScoreTable,
    UnmeasurableError,
)

if TYPE_CHECKING:
    from vlalign.evaluation.features import DenseFeatures
    from vlalign.evaluation.referents import PhraseScores
    from vlalign.evaluation.workbench import Workbench

logger = logging.getLogger(__name__)

# The group of all phrases with two referents or more.
MULTIPLE = "multiple"
TOP_K, EXACT = Metric("top_k", "Grounding top-k", headline=True), Metric("exact", "exact set")
F1, POINTING = Metric("f1", "F1 of set"), Metric("pointing_accuracy", "Pointing", headline=True)
PREFIX = Metric("prefix_exact", "exact set by best subset")
BOXED = Metric("top_1_with_boxes", "one, boxes too")
CENTRED = (
    TOP_K,
    replace(TOP_K, label="Several referents, top-k", group=MULTIPLE),
    replace(EXACT, label="Several referents, exact set", group=MULTIPLE, headline=True),
    POINTING,
    BOXED,
    Metric("recall_at_k", "recall at k"),
    F1,
    Metric("threshold", "threshold", unit="similarity", direction=None, digits=3),
    replace(PREFIX, label="Several referents, best subset", group=MULTIPLE),
    Metric("prefix_f1", "F1 of best subset"),
    Metric("exponent", "exponent of sizes", unit="ratio", direction=None, digits=2),
)
# The same of features as they come.
RAW_PREFIX = "raw_"
RAW = tuple(replace(metric, name=RAW_PREFIX + metric.name, headline=False) for metric in CENTRED)


class Grounding(Benchmark):
    """Phrases that find their referents among the objects, random boxes and patches of their own images."""

    rank = 40
    needs = Needs(("pairs", "phrases"), tuning=("pairs", "phrases"))
    protocol = "a phrase's k best regions must be its k referents; ties count against the model"
    metrics = (
        *CENTRED,
        *RAW,
        Metric("positive_share", "positive similarities", direction=None),
        Metric("left_out", "phrases left out", unit="count", direction=None),
    )
    tables = (
        ScoreTable(
            "grounding",
            "Grounding by kind of phrase and stratum",
            "Share of phrases whose k best object masks are exactly their k referents, with region and phrase features "
            "centred. F1 and exact set: the threshold on similarity was tuned on the validation split. By best subset: "
            "the subset with the largest sum of similarities over a power of its size, which was tuned there too.",
            section="Grounding",
            columns=(replace(TOP_K, group=EACH), BOXED, replace(POINTING, label="pointing"), F1, EXACT, PREFIX),
        ),
    )

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """`grounding_rows` of centred and of raw features, "positive_share", and how many phrases were "left_out"."""
        from vlalign.evaluation.referents import best_exponent, best_threshold, positive_share
        from vlalign.evaluation.similarity import feature_centres, phrase_scores

        test, tuning = _dense(bench, split), _dense(bench, TUNING_SPLIT)
        boxes, image_strata = bench.boxes(split), bench.split(split).strata
        kinds = [phrase.kind for phrase in test.phrases]
        strata = [image_strata[phrase.image] for phrase in test.phrases]
        rows = [MetricRow(metric="left_out", value=sum(test.left_out.values()))]
        for prefix, centres in (("", feature_centres(tuning)), (RAW_PREFIX, None)):
            scores = phrase_scores(test, centres=centres, boxes=boxes)
            tuned = phrase_scores(tuning, centres=centres)
            rule = {"threshold": best_threshold(tuned), "exponent": best_exponent(tuned)}
            found = grounding_rows(scores, kinds, strata, **rule)
            rows += [row.model_copy(update={"metric": prefix + row.metric}) for row in found]
        return [*rows, MetricRow(metric="positive_share", value=positive_share(scores))]


def _dense(bench: "Workbench", split: str) -> "DenseFeatures":
    dense = bench.split(split).dense
    if not bench.encoder.has_joint_tokens:
        raise UnmeasurableError("its adapters map pooled features alone, and not those of patches and words")
    if dense is None:
        raise AbsentError(f"{split} has no phrase annotation; annotate it")
    for cause, count in dense.left_out.items():
        if count:
            logger.warning("%s: %d times %s", split, count, cause)
    if not dense.phrases:
        raise UnmeasurableError(f"{split} has no phrase with known and visible referents in its samples' meta")
    return dense


def grounding_rows(
    scores: "PhraseScores",
    kinds: Sequence[str],
    strata: Sequence[str | None],
    *,
    threshold: float,
    exponent: float,
) -> list[MetricRow]:
    """Every grounding figure, over all phrases and within each stratum.

    scores: the similarities of the N phrases. kinds: the kind of each phrase, whatever the dataset calls them. strata:
    the stratum of each phrase's image, None for none. threshold: for "f1" and "exact"; exponent: for those of the best
    prefix; both were tuned on other data than these.
    """
    import torch

    rule = {"threshold": threshold, "exponent": exponent}
    rows = [MetricRow(metric=name, value=value) for name, value in rule.items()]
    for stratum in (ALL, *sorted({name for name in strata if name is not None})):
        inside = [stratum in (ALL, name) for name in strata]
        inside_kinds = [kind for kind, keep in zip(kinds, inside, strict=True) if keep]
        found = kind_rows(scores.select(torch.tensor(inside)), inside_kinds, **rule)
        rows += [row.model_copy(update={"stratum": stratum}) for row in found]
    return rows


def kind_rows(scores: "PhraseScores", kinds: Sequence[str], *, threshold: float, exponent: float) -> list[MetricRow]:
    """`set_scores` per kind, the easiest by chance first, then for `MULTIPLE` and `ALL`; with boxes, and pointing."""
    import torch

    from vlalign.evaluation.ranking import percent, scored
    from vlalign.evaluation.referents import box_scores, pointable, pointing_scores, set_scores, top_k_chance

    count_N = scores.referents_NR.sum(1)
    masks = {name: torch.tensor([kind == name for kind in kinds]) for name in set(kinds)}
    masks |= {MULTIPLE: count_N > 1, ALL: count_N > 0}
    groups = {name: scores.select(keep) for name, keep in masks.items() if keep.any()}
    chance = {name: percent(top_k_chance(one.referents_NR, one.objects_NR)) for name, one in groups.items()}
    rows = []
    for name in sorted(groups, key=lambda name: (name == ALL, name == MULTIPLE, -chance[name], name)):
        for metric, found_N in set_scores(groups[name], threshold=threshold, exponent=exponent).items():
            rows.append(scored(metric, found_N, group=name, chance=chance[name] if metric == TOP_K.name else None))
    boxed_N = (count_N == 1) & scores.box_mask_NB.any(1)
    for one, keep, score in ((BOXED, boxed_N, box_scores), (POINTING, pointable(scores), pointing_scores)):
        if keep.any():
            hits_N, guessed = score(scores.select(keep))
            rows.append(scored(one.name, hits_N, chance=guessed))
    return rows
