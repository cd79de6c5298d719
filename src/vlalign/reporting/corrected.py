"""Differences that a study set out to test, corrected for how many they are."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vlalign.evaluation.benchmark import ALL, Metric, known_benchmarks
from vlalign.params.workflow import TestsParams
from vlalign.reporting.cells import Cell, Row, Table, difference_cell, tone_of
from vlalign.reporting.results import Results
from vlalign.reporting.stats import ABOVE, BELOW, LEVEL, NOISE, Difference, holm, p_value, paired_difference

Place = tuple[str, Metric, str]


def corrected_table(results: Results, tests: TestsParams) -> Table:
    """A row for each metric below each reference, a column for each arm; no row of what was not measured, or has one
    seed.

    The verdict of a difference is that of its p-value after Holm's correction over the whole table; its interval is the
    one that Bonferroni's correction for as many differences gives.
    """
    metrics = [tested_metric(name) for name in tests.metrics]
    places = itertools.product(tests.references, metrics, tests.arms)
    values = {place: (results.values(place[2], place[1]), results.values(*place[:2])) for place in places}
    values = {place: both for place, both in values.items() if place[0] != place[2] and _seeds(*both) > 1}
    level = 1 - (1 - LEVEL) / max(1, len(values))
    differences = [paired_difference(*both, level=level) for both in values.values()]
    adjusted = holm([p_value(*both) for both in values.values()])
    found = {
        place: (difference, p)
        for place, difference, p in zip(values, differences, adjusted, strict=True)
        if difference is not None
    }
    rows = list[Row]()
    for reference in tests.references:
        rows.append(Row(f"minus {reference}", kind="group"))
        for metric in metrics:
            row = [found.get((reference, metric, arm)) for arm in tests.arms]
            if any(row):
                rows.append(Row(metric.label, tuple(_cell(*one, metric) if one else Cell("") for one in row)))
    return Table(
        "tests",
        "What was tested, corrected for how many differences these are",
        f"Arm minus reference, paired by seed, with the interval that holds for all {len(found)} differences at once "
        f"({LEVEL:.0%}, Bonferroni). A star, blue (better) or orange (worse): p below {1 - LEVEL:.2g} after Holm's "
        "correction. Grey: not distinguishable from noise.",
        ("metric", *tests.arms),
        tuple(rows) if found else (),
        [_record(place, *one) for place, one in found.items()],
        section="Results",
    )


def _seeds(values: Mapping[int, float], reference: Mapping[int, float]) -> int:
    return len(values.keys() & reference.keys())


def tested_metric(name: str) -> Metric:
    """`benchmark.metric` or `benchmark.metric.group`, with a label of its own where the benchmark declares one."""
    benchmark, metric, group = (*name.split("."), ALL)[:3]
    declared = [one for one in known_benchmarks()[benchmark].metrics if one.name == metric]
    exact = next((one for one in declared if one.group == group), None)
    if exact is not None:
        return replace(exact, benchmark=benchmark)
    label = f"{metric}, {group}".replace("_", " ")
    return replace(declared[0], benchmark=benchmark, group=group, label=label)


def _verdict(difference: Difference, p: float) -> str:
    if p >= 1 - LEVEL:
        return NOISE
    return ABOVE if difference.mean > 0 else BELOW


def _cell(difference: Difference, p: float, metric: Metric) -> Cell:
    verdict = _verdict(difference, p)
    cell = difference_cell(difference, metric=metric)
    star = "" if verdict == NOISE else "*"
    return replace(cell, text=cell.text + star, tone=tone_of(verdict, direction=metric.direction))


def _record(place: Place, difference: Difference, p: float) -> dict[str, Any]:
    reference, metric, arm = place
    named = dict(zip(("benchmark", "metric", "group", "stratum"), metric.place, strict=True))
    return {
        "run": arm,
        "reference": reference,
        **named,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "n": difference.n,
        "p_holm": p,
        "verdict": _verdict(difference, p),
    }
