"""Differences that a study set out to test, corrected for how many they are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vlalign.evaluation.benchmark import ALL, Metric, known_benchmarks
from vlalign.params.workflow import TestsParams
from vlalign.reporting.cells import Cell, Row, Table, difference_cell
from vlalign.reporting.results import Results
from vlalign.reporting.stats import ABOVE, BELOW, LEVEL, NOISE, Difference, holm, p_value, paired_difference

TONES = {"higher": {ABOVE: "better", BELOW: "worse"}, "lower": {ABOVE: "worse", BELOW: "better"}}


def corrected_table(results: Results, tests: TestsParams) -> Table:
    """A row for each metric below each reference, a column for each arm; no row of what was not measured.

    The verdict of a difference is that of its p-value after Holm's correction over the whole table; its interval is the
    one that Bonferroni's correction for as many differences gives.
    """
    metrics = [_metric(name) for name in tests.metrics]
    places = [
        (reference, metric, arm)
        for reference in tests.references
        for metric in metrics
        for arm in tests.arms
        if arm != reference
    ]
    plain = {place: results.difference(place[2], place[1], reference=place[0]) for place in places}
    # An arm with one seed has a difference and no test.
    tested = [place for place, found in plain.items() if found is not None and found.low is not None]
    adjusted = dict(zip(tested, holm([p_value(*_values(results, *place)) for place in tested]), strict=True))
    level = 1 - (1 - LEVEL) / max(1, len(tested))
    found = {place: paired_difference(*_values(results, *place), level=level) for place in tested}
    rows, records = list[Row](), list[dict[str, Any]]()
    for reference in tests.references:
        rows.append(Row(f"minus {reference}", kind="group"))
        for metric in metrics:
            cells = [
                _cell(found.get((reference, metric, arm)), adjusted.get((reference, metric, arm)), metric)
                for arm in tests.arms
            ]
            if any(cell.text for cell in cells):
                rows.append(Row(metric.label, tuple(cells)))
    for (reference, metric, arm), p in adjusted.items():
        one = found[reference, metric, arm]
        assert one is not None
        place = dict(zip(("benchmark", "metric", "group", "stratum"), metric.place, strict=True))
        records.append(
            {"run": arm, "reference": reference, **place, "difference": one.mean, "low": one.low, "high": one.high}
            | {"n": one.n, "p_holm": p, "verdict": _verdict(one, p)}
        )
    return Table(
        "tests",
        "What was tested, corrected for how many differences these are",
        f"Arm minus reference, paired by seed, with the interval that holds for all {len(tested)} differences at once "
        f"({LEVEL:.0%}, Bonferroni). A star, blue (better) or orange (worse): p below {1 - LEVEL:.2g} after Holm's "
        "correction. Grey: not distinguishable from noise.",
        ("metric", *tests.arms),
        tuple(rows) if tested else (),
        records,
        section="Results",
    )


def _metric(name: str) -> Metric:
    """`benchmark.metric` or `benchmark.metric.group`, with a label of its own where the benchmark declares one."""
    benchmark, metric, group = (*name.split("."), ALL)[:3]
    declared = [one for one in known_benchmarks()[benchmark].metrics if one.name == metric]
    exact = next((one for one in declared if one.group == group), None)
    if exact is not None:
        return replace(exact, benchmark=benchmark)
    label = f"{metric}, {group}".replace("_", " ")
    return replace(declared[0], benchmark=benchmark, group=group, label=label)


def _values(results: Results, reference: str, metric: Metric, arm: str) -> tuple[dict[int, float], dict[int, float]]:
    return results.values(arm, metric), results.values(reference, metric)


def _verdict(difference: Difference, p: float) -> str:
    if p >= 1 - LEVEL:
        return NOISE
    return ABOVE if difference.mean > 0 else BELOW


def _cell(difference: Difference | None, p: float | None, metric: Metric) -> Cell:
    if difference is None or p is None:
        return Cell("")
    verdict = _verdict(difference, p)
    tone = "noise" if verdict == NOISE else TONES.get(metric.direction or "", {}).get(verdict, "changed")
    cell = difference_cell(difference, metric=metric)
    return replace(cell, text=cell.text + ("" if verdict == NOISE else "*"), tone=tone)


def tables_of(results: Results, tests: TestsParams | None) -> Sequence[Table]:
    """The table, where tests are asked for and something was measured."""
    found = [] if tests is None else [corrected_table(results, tests)]
    return [table for table in found if table.rows]
