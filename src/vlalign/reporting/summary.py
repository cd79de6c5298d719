"""What moved and what did not, in words that are generated from the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlalign.evaluation.benchmark import Metric
from vlalign.reporting.cells import interval_text, number, tone
from vlalign.reporting.results import Results, lookup
from vlalign.reporting.stats import ABOVE, NOISE, ONE_SEED

COLLAPSE = Metric("uniformity_image", "Uniformity, images", benchmark="modality")
POSITIVE = Metric("positive_share", "positive similarities", benchmark="grounding")
ALWAYS_ALL = 95.0  # percent of positive similarities
LESS_EVEN = 0.2  # rise in uniformity that is worth a warning


@dataclass(frozen=True)
class Finding:
    """One metric of one comparison, as shown: its label, the signed difference and the interval (may be empty)."""

    label: str
    difference: str
    interval: str


@dataclass(frozen=True)
class Comparison:
    """One arm against another: findings by what their paired intervals say. `seeds` is the largest number of pairs."""

    arm: str
    reference: str
    seeds: int
    better: tuple[Finding, ...]
    worse: tuple[Finding, ...]
    noise: tuple[Finding, ...]
    single: tuple[Finding, ...]


@dataclass(frozen=True)
class Summary:
    """`lead` sentences, comparisons with the baseline and with the control, and cautions about reading them."""

    lead: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]
    cautions: tuple[str, ...]


def summarise(results: Results) -> Summary:
    """Compare every arm with the baseline, and with the control those that differ from both."""
    comparisons = _comparisons(results, results.baseline, excluded=())
    controls = _comparisons(results, results.control, excluded=(results.baseline,))
    cautions = (text for arm in results.arms for text in (_collapse(results, arm), _trivial_subsets(results, arm)))
    return Summary(tuple(_lead(results, comparisons)), comparisons, controls, tuple(filter(None, cautions)))


def _comparisons(results: Results, reference: str, *, excluded: Sequence[str]) -> tuple[Comparison, ...]:
    if reference not in results.arms or reference in excluded:
        return ()
    others = [arm for arm in results.arms if arm != reference and arm not in excluded]
    return tuple(compare(results, arm, reference=reference) for arm in others)


def compare(results: Results, arm: str, *, reference: str) -> Comparison:
    """Sort the headline metrics that both runs have by the tone of their paired difference."""
    found: dict[str, list[Finding]] = {"better": [], "worse": [], "noise": [], "single": []}
    seeds = 0
    for metric in results.headline:
        difference = results.difference(arm, metric, reference=reference)
        if difference is not None:
            seeds = max(seeds, difference.n)
            signed = number(difference.mean, digits=metric.digits, signed=True)
            finding = Finding(metric.label, signed, interval_text(difference, digits=metric.digits))
            found[tone(difference, direction=metric.direction)].append(finding)
    return Comparison(arm, reference, seeds, **{name: tuple(items) for name, items in found.items()})


def _lead(results: Results, comparisons: Sequence[Comparison]) -> list[str]:
    if results.baseline not in results.arms:
        return [f"The arm {results.baseline} was not run, so there is nothing to compare with."]
    if not comparisons:
        return [f"Only {results.baseline} was run, so there is nothing to compare."]
    verdicts = ("better", "worse", "noise", "single")
    counts = {name: sum(len(getattr(one, name)) for one in comparisons) for name in verdicts}
    if not any(counts.values()):
        return [f"No headline metric was measured for both {results.baseline} and another arm."]
    decided = counts["better"] + counts["worse"] + counts["noise"]
    lead = [_tally(results, counts, decided), *_extremes(comparisons)] if decided else []
    if counts["single"]:
        lead.append(
            f"{counts['single']} differences rest on {ONE_SEED.replace(': ', ' and have ')}: they are shown, "
            "but no conclusion can be drawn from them."
        )
    return lead


def _tally(results: Results, counts: dict[str, int], decided: int) -> str:
    expected = number(0.05 * decided, digits=1)
    moved = counts["better"] + counts["worse"]
    return (
        f"Of {decided} paired differences to {results.baseline}, {moved} have a 95 % interval that excludes zero "
        f"({counts['better']} better, {counts['worse']} worse); {counts['noise']} are {NOISE}. "
        f"If nothing differed at all, about {expected} would exclude zero by chance."
    )


def _extremes(comparisons: Sequence[Comparison]) -> list[str]:
    """Name what moved in no arm, and in which arms anything moved."""
    labels = dict.fromkeys(finding.label for one in comparisons for finding in one.better + one.worse + one.noise)
    sentences = []
    for name, word in (("better", "Better than"), ("worse", "Worse than")):
        found = [(label, _arms_with(comparisons, label, name)) for label in labels]
        parts = [f"{label} ({', '.join(arms)})" for label, arms in found if arms]
        if parts:
            sentences.append(f"{word} {comparisons[0].reference}: {'; '.join(parts)}.")
    still = [label for label in labels if not any(_arms_with(comparisons, label, name) for name in ("better", "worse"))]
    if still:
        sentences.append(f"In no arm distinguishable from {comparisons[0].reference}: {', '.join(still)}.")
    return sentences


def _arms_with(comparisons: Sequence[Comparison], label: str, name: str) -> list[str]:
    """`arm difference` of the comparisons that have this finding under `better` or `worse`."""
    found = ((one.arm, finding) for one in comparisons for finding in getattr(one, name))
    return [f"{arm} {finding.difference}" for arm, finding in found if finding.label == label]


def _collapse(results: Results, arm: str) -> str:
    """A narrower gap means little where the embedding has shrunk; uniformity nearer to 0 tells."""
    difference = results.difference(arm, COLLAPSE, reference=results.baseline)
    own, base = results.spread(arm, COLLAPSE), results.spread(results.baseline, COLLAPSE)
    if arm == results.baseline or difference is None or own is None or base is None:
        return ""
    if difference.verdict != ABOVE or difference.mean < LESS_EVEN:
        return ""
    return (
        f"{arm}: image embeddings are less evenly spread than those of {results.baseline} (uniformity "
        f"{number(own.mean, digits=2)} against {number(base.mean, digits=2)}; 0 is collapsed). Read its modality gap "
        "and divergence with that in mind."
    )


def _trivial_subsets(results: Results, arm: str) -> str:
    share = results.spread(arm, POSITIVE)
    if share is None or share.mean <= ALWAYS_ALL or not _chooses_raw(results, arm):
        return ""
    return (
        f"{arm}: {number(share.mean)} % of the similarities between an image's regions and its own phrases are "
        "positive, so the best subset is nearly always all regions, and choosing subsets does next to nothing."
    )


def _chooses_raw(results: Results, arm: str) -> bool:
    """True if the arm's objective chooses subsets by raw similarities: neither centred nor with a cost per region."""
    params = next(run.params for run in results.runs if run.name == arm)
    powerset = lookup(params, "objective.powerset") or {}
    subsets = powerset.get("weight") and powerset.get("aggregator") not in ("mean", "max")
    return bool(subsets) and not powerset.get("cost") and not powerset.get("centre")
