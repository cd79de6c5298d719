"""Tables over runs: built once, written as CSV (unrounded) and rendered in the report (rounded)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlalign.evaluation.benchmark import EACH, Metric, ScoreTable, known_benchmarks
from vlalign.reporting.cells import MISSING, Cell, Row, Table, difference_cell, number, spread_cell, tone, turned, units
from vlalign.reporting.claims import claims_table
from vlalign.reporting.exports import write_all, write_table
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Grid, Results

SPREAD = "Mean ± sample standard deviation over seeds."
TINTED = (
    f"{SPREAD} Coloured where the paired 95 % interval of the difference to "
    "{baseline} excludes zero: blue better, orange worse."
)


def write_tables(
    results: Results, output_dir: str | Path, *, precision: Path | None = None, suites: Iterable[Table] = ()
) -> list[Path]:
    """Write `<output_dir>/<table>.csv` for every table that the runs allow, and return the paths.

    precision: CSV file of the aggregators' errors, if there is one. suites: tables of suites, which are also written as
    JSON, Markdown and LaTeX.
    """
    paths = []
    for table in [*measured_tables(results, precision), *published_tables()]:
        paths.append(Path(output_dir) / f"{table.name}.csv")
        write_table(table, paths[-1])
    return paths + [path for table in suites for path in write_all(table, Path(output_dir))]


def measured_tables(results: Results, precision: Path | None = None) -> list[Table]:
    """Every table with at least one row, in the order of the report; precision: see `write_tables`."""
    declared = ((name, table) for name, kind in known_benchmarks().items() for table in kind.tables)
    tables = [
        claims_table(results, precision),
        arms_table(results),
        *(differences_table(results, reference=arm) for arm in dict.fromkeys((results.baseline, results.control))),
        *(score_table(results, table, benchmark=name) for name, table in declared),
        *(ablation_table(results, grid) for grid in results.grids),
        parameters_table(results),
    ]
    return [table for table in tables if table.rows]


def arms_table(results: Results, metrics: Sequence[Metric] | None = None) -> Table:
    """Arms by metrics, those of the headline if none are given, with what guessing scores."""
    metrics = results.headline if metrics is None else metrics
    table = Table(
        "arms",
        "Headline metrics of all arms",
        f"{TINTED.format(baseline=results.baseline)} {units(metrics)}",
        ("arm", *(metric.label for metric in metrics)),
        tuple(_arm_rows(results, metrics)) if metrics else (),
        _spread_records(results, results.subjects, metrics),
        section="Results",
    )
    return turned(table)


def score_table(results: Results, table: ScoreTable, *, benchmark: str) -> Table:
    """A table that a benchmark declares; its CSV has all that the benchmark measures."""
    columns = [column for metric in table.columns for column in _columns(results, metric, benchmark)]
    strata = results.strata(benchmark)
    rows: list[Row] = []
    for stratum in strata if columns else ():
        if len(strata) > 1:
            size = ""
            if table.counted:
                counted = replace(table.counted, benchmark=benchmark, stratum=stratum)
                sizes = (results.spread(arm, counted) for arm in results.arms)
                size = next((f": {spread.mean:.0f} {counted.label}" for spread in sizes if spread), "")
            rows.append(Row(f"{stratum}{size}", kind="group"))
        rows += _arm_rows(results, [replace(column, stratum=stratum) for column in columns])
    measured = dict.fromkeys(
        Metric(row.metric, "", group=row.group, stratum=row.stratum, benchmark=benchmark)
        for row in results.select(benchmark=benchmark)
    )
    return Table(
        table.name,
        table.title,
        f"{TINTED.format(baseline=results.baseline)} {table.caption}",
        ("arm", *(column.label for column in columns)),
        tuple(rows),
        _spread_records(results, results.subjects, measured),
        section=table.section,
    )


def _columns(results: Results, metric: Metric, benchmark: str) -> list[Metric]:
    """The metric of a column if any run has it, or that of each group that was measured."""
    groups = results.groups(benchmark, metric.name)
    if metric.group != EACH:
        return [replace(metric, benchmark=benchmark)] if metric.group in groups else []
    return [replace(metric, benchmark=benchmark, group=group, label=group.replace("_", " ")) for group in groups]


def _arm_rows(results: Results, metrics: Sequence[Metric]) -> Iterator[Row]:
    """A row for each arm, and one for what guessing scores if that is known of any metric."""
    for arm in results.subjects:
        yield Row(arm, tuple(_spread(results, arm, metric) for metric in metrics))
    chances = [results.chance(metric) for metric in metrics]
    if any(chance is not None for chance in chances):
        cells = (
            Cell(MISSING if chance is None else number(chance, digits=metric.digits))
            for chance, metric in zip(chances, metrics, strict=True)
        )
        yield Row("chance", tuple(cells), kind="chance")


def differences_table(results: Results, *, reference: str) -> Table:
    """Paired differences of every arm to `reference`; empty when that arm was not run.

    The baseline has no row beside the control: its table holds that difference already.
    """
    skipped = (reference, results.baseline)
    others = [arm for arm in results.arms if arm not in skipped] if reference in results.arms else []
    measured = results.headline
    rows, records = [], []
    for arm in others:
        found = [(metric, results.difference(arm, metric, reference=reference)) for metric in measured]
        rows.append(Row(arm, tuple(difference_cell(difference, metric=metric) for metric, difference in found)))
        records += [
            {"run": arm, "reference": reference, **_named(metric), "difference": difference.mean}
            | {"low": difference.low, "high": difference.high, "n": difference.n, "verdict": difference.verdict}
            for metric, difference in found
            if difference
        ]
    table = Table(
        f"differences-to-{reference}",
        f"Paired differences to {reference}",
        f"Arm minus {reference}, paired by seed: mean and 95 % Student-t interval. Blue better, orange worse, grey: "
        "the interval contains zero, so the difference is not distinguishable from noise.",
        ("arm", *(metric.label for metric in measured)),
        tuple(rows),
        records,
        section="Results",
    )
    return turned(table)


def ablation_table(results: Results, grid: Grid) -> Table:
    """Values of one parameter by headline metrics."""
    measured = results.headline
    rows, records = [], []
    for value, run in grid.points:
        name = f"{value}" if run != grid.arm else f"{value} ({grid.arm})"
        rows.append(Row(name, tuple(_spread(results, run, metric, tinted=not grid.changed) for metric in measured)))
        records += [{"value": value, **record} for record in _spread_records(results, [run], measured)]
    if results.baseline in results.arms and not grid.changed:
        cells = tuple(_spread(results, results.baseline, metric) for metric in measured)
        rows.append(Row(results.baseline, cells, kind="chance"))
    # What a number and its colour mean; of runs that differ from the arms in more, nothing is coloured.
    explained = [SPREAD] if grid.seeds > 1 else []
    if not grid.changed:
        explained = [TINTED.format(baseline=results.baseline)]
    table = Table(
        f"ablation-{grid.name}",
        f"Ablation: {grid.name}",
        " ".join((f"{grid.param} of {grid.arm}.", grid.remark, *explained)),
        (grid.name, *(metric.label for metric in measured)),
        tuple(rows),
        records,
        section="Ablations",
    )
    return turned(table, corner=grid.name)


def parameters_table(results: Results) -> Table:
    """How many parameters each arm trains, and how many it keeps; no row for runs that do not tell."""
    told: dict[str, dict[str, int]] = {run.name: run.record.get("parameters", {}) for run in reversed(results.runs)}
    sizes = {arm: told[arm] for arm in results.arms if told[arm]}
    return Table(
        "parameters",
        "Parameters of all arms",
        "Numbers that training changes, and those that stay as they are.",
        ("arm", "trained", "frozen", "trained (share)"),
        tuple(
            Row(arm, tuple(map(Cell, (f"{size['trained']:,}", f"{size['frozen']:,}", f"{_share(size):.1%}"))))
            for arm, size in sizes.items()
        ),
        [{"run": arm, **size} for arm, size in sizes.items()],
        section="Training",
    )


def _share(size: Mapping[str, int]) -> float:
    return size["trained"] / max(1, sum(size.values()))


def _spread(results: Results, run: str, metric: Metric, *, tinted: bool = True) -> Cell:
    shade = ""
    if tinted and run != results.baseline:
        difference = results.difference(run, metric, reference=results.baseline)
        shade = tone(difference, direction=metric.direction)
    shade = shade if shade in ("better", "worse", "changed") else ""
    return spread_cell(results.spread(run, metric), digits=metric.digits, tone=shade)


def _spread_records(results: Results, runs: Iterable[str], metrics: Collection[Metric]) -> list[dict[str, Any]]:
    found = ((run, metric, results.spread(run, metric)) for run in runs for metric in metrics)
    return [
        {"run": run, **_named(metric), "mean": spread.mean, "sd": spread.sd, "n": spread.n}
        | {"chance": results.chance(metric)}
        for run, metric, spread in found
        if spread is not None
    ]


def _named(metric: Metric) -> dict[str, str]:
    return dict(zip(("benchmark", "metric", "group", "stratum"), metric.place, strict=True))
