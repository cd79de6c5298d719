"""Tables over runs: built once, written as CSV (unrounded) and rendered in the report (rounded)."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vlalign.files import atomic_write
from vlalign.reporting.cells import MISSING, Cell, Row, Table, difference_cell, number, spread_cell, tone, turned
from vlalign.reporting.grounding_table import grounding_table
from vlalign.reporting.headline import HEADLINE, SHARED_SPACE, Metric
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Grid, Results, load_results

SPREAD = "Mean ± sample standard deviation over seeds."
TINTED = (
    f"{SPREAD} Coloured where the paired 95 % interval of the difference to "
    "{baseline} excludes zero: blue better, orange worse."
)


def write_tables(
    metrics: str | Path,
    output_dir: str | Path,
    *,
    run_dirs: Sequence[str | Path],
    baseline: str = "clip",
    control: str = "linear",
) -> list[Path]:
    """Write `<output_dir>/<table>.csv` for every table that the runs allow, and return the paths.

    Args:
        metrics: the collected metrics.json.
        run_dirs: directories of single seeds, in the order in which arms are to appear.
        baseline, control: arms that the others are compared with; either may be absent.
    """
    results = load_results(metrics, run_dirs, baseline=baseline, control=control)
    paths = []
    for table in [*measured_tables(results), *published_tables()]:
        path = Path(output_dir) / f"{table.name}.csv"
        _write_csv(path, table.records)
        paths.append(path)
    return paths


def measured_tables(results: Results) -> list[Table]:
    """Every table with at least one row, in the order of the report."""
    tables = [
        arms_table(results),
        *(differences_table(results, reference=arm) for arm in dict.fromkeys((results.baseline, results.control))),
        grounding_table(results),
        composition_table(results),
        retrieval_table(results),
        shared_space_table(results),
        *(ablation_table(results, grid) for grid in results.grids),
    ]
    return [table for table in tables if table.rows]


def arms_table(results: Results) -> Table:
    """Arms by headline metrics, with what guessing scores."""
    table = _metrics_table(
        results,
        HEADLINE,
        name="arms",
        title="Headline metrics of all arms",
        caption=f"{TINTED.format(baseline=results.baseline)} Scores in percent; the modality gap is a distance.",
    )
    return turned(table)


def shared_space_table(results: Results) -> Table:
    """Arms by what the two modalities' common space is like, and is good for."""
    return _metrics_table(
        results,
        SHARED_SPACE,
        name="shared-space",
        title="The shared space of both modalities",
        caption=f"{TINTED.format(baseline=results.baseline)} Uniformity stands beside the gap because a collapsed "
        "embedding closes the gap too: 0 is collapsed, more negative is more even. Mixed gallery: images and captions "
        "together, the query left out.",
    )


def _metrics_table(results: Results, metrics: Sequence[Metric], *, name: str, title: str, caption: str) -> Table:
    measured = results.measured(metrics)
    rows = [Row(arm, tuple(_spread(results, arm, metric) for metric in measured)) for arm in results.arms]
    if any(results.chance(metric) is not None for metric in measured):
        rows.append(Row("chance", tuple(_chance(results, metric) for metric in measured), kind="chance"))
    records = [record for arm in results.arms for record in _spread_records(results, arm, measured)]
    header = ("arm", *(metric.label for metric in measured))
    return Table(name, title, caption, header, tuple(rows) if measured else (), records)


def differences_table(results: Results, *, reference: str) -> Table:
    """Paired differences of every arm to `reference`; empty when that arm was not run.

    The baseline has no row beside the control: its table holds that difference already.
    """
    skipped = (reference, results.baseline)
    others = [arm for arm in results.arms if arm not in skipped] if reference in results.arms else []
    measured = results.measured(HEADLINE)
    rows, records = [], []
    for arm in others:
        rows.append(Row(arm, tuple(_difference(results, arm, metric, reference) for metric in measured)))
        records += [_difference_record(results, arm, metric, reference) for metric in measured]
    table = Table(
        f"differences-to-{reference}",
        f"Paired differences to {reference}",
        f"Arm minus {reference}, paired by seed: mean and 95 % Student-t interval. Blue better, orange worse, grey: "
        "the interval contains zero, so the difference is not distinguishable from noise.",
        ("arm", *(metric.label for metric in measured)),
        tuple(rows),
        [record for record in records if record],
    )
    return turned(table)


def composition_table(results: Results) -> Table:
    """Arms by category of hard negatives, then the means over them."""
    paths = {path for arm in results.arms for path in results.metrics.get(arm, {})}
    categories = sorted(
        path.split(".")[1] for path in paths if path.startswith("composition.") and path.endswith(".accuracy")
    )
    metrics = [Metric(f"composition.{name}.accuracy", name.replace("_", " ")) for name in categories]
    metrics += [
        Metric("composition.micro", "micro mean"),
        Metric("composition.macro", "macro mean"),
        Metric("composition.group", "group score"),
    ]
    table = _metrics_table(
        results,
        metrics,
        name="composition",
        title="Hard negatives by category",
        caption=f"{TINTED.format(baseline=results.baseline)} Share of items whose true caption scores strictly higher "
        "than its negative (guessing: 50). Group: both captions and both images of a pair are right (guessing: 16.7).",
    )
    return table


def retrieval_table(results: Results) -> Table:
    """Arms by recall at 1, 5 and 10, within the whole gallery and within each stratum's."""
    paths = {path for arm in results.arms for path in results.metrics.get(arm, {}) if path.startswith("retrieval.")}
    strata = sorted({path.split(".")[1] for path in paths}, key=lambda name: (name != "all", name))
    columns = [("image_to_text", "I → T"), ("text_to_image", "T → I")]
    keys = [(f"{key}_r{k}", f"{label} R@{k}") for key, label in columns for k in (1, 5, 10)]
    rows: list[Row] = []
    records: list[dict[str, Any]] = []
    for stratum in strata:
        metrics = [Metric(f"retrieval.{stratum}.{key}", label) for key, label in keys]
        rows.append(Row(_gallery(results, stratum), kind="group"))
        rows += [Row(arm, tuple(_spread(results, arm, metric) for metric in metrics)) for arm in results.arms]
        records += [record for arm in results.arms for record in _spread_records(results, arm, metrics)]
    return Table(
        "retrieval",
        "Retrieval by stratum",
        f"{TINTED.format(baseline=results.baseline)} Each stratum is searched within its own gallery, so its "
        "numbers are not parts of the whole.",
        ("arm", *(label for _, label in keys)),
        tuple(rows),
        records,
    )


def _gallery(results: Results, stratum: str) -> str:
    spreads = (results.spread(arm, f"retrieval.{stratum}.images") for arm in results.arms)
    images = next((spread.mean for spread in spreads if spread), None)
    return stratum if images is None else f"{stratum}: {images:.0f} images"


def ablation_table(results: Results, grid: Grid) -> Table:
    """Values of one parameter by headline metrics."""
    measured = results.measured(HEADLINE)
    rows, records = [], []
    for value, run in grid.points:
        name = f"{value}" if run != grid.arm else f"{value} ({grid.arm})"
        rows.append(Row(name, tuple(_spread(results, run, metric, tinted=not grid.changed) for metric in measured)))
        records += [{"value": value, **record} for record in _spread_records(results, run, measured)]
    if results.baseline in results.arms and not grid.changed:
        cells = tuple(_spread(results, results.baseline, metric) for metric in measured)
        rows.append(Row(results.baseline, cells, kind="chance"))
    table = Table(
        f"ablation-{grid.name}",
        f"Ablation: {grid.name}",
        " ".join((f"{grid.param} of {grid.arm}.", grid.remark, *_explained(results, grid))),
        (grid.name, *(metric.label for metric in measured)),
        tuple(rows),
        records,
    )
    return turned(table, corner=grid.name)


def _explained(results: Results, grid: Grid) -> tuple[str, ...]:
    """What a number and its colour mean in the table of a grid."""
    if not grid.changed:
        return (TINTED.format(baseline=results.baseline),)
    return (SPREAD,) if grid.seeds > 1 else ()


def _spread(results: Results, run: str, metric: Metric, *, tinted: bool = True) -> Cell:
    shade = ""
    if tinted and run != results.baseline:
        difference = results.difference(run, metric.path, reference=results.baseline)
        shade = tone(difference, higher_is_better=metric.higher_is_better)
    shade = shade if shade in ("better", "worse", "changed") else ""
    return spread_cell(results.spread(run, metric.path), digits=metric.digits, tone=shade)


def _chance(results: Results, metric: Metric) -> Cell:
    chance = results.chance(metric)
    return Cell(MISSING if chance is None else number(chance, digits=metric.digits))


def _difference(results: Results, arm: str, metric: Metric, reference: str) -> Cell:
    return difference_cell(results.difference(arm, metric.path, reference=reference), metric=metric)


def _spread_records(results: Results, run: str, metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    records = []
    for metric in metrics:
        spread = results.spread(run, metric.path)
        if spread is not None:
            records.append({"run": run, "metric": metric.path, "mean": spread.mean, "sd": spread.sd, "n": spread.n})
    return records


def _difference_record(results: Results, arm: str, metric: Metric, reference: str) -> dict[str, Any]:
    found = results.difference(arm, metric.path, reference=reference)
    if found is None:
        return {}
    bounds = {"difference": found.mean, "low": found.low, "high": found.high, "n": found.n, "verdict": found.verdict}
    return {"run": arm, "reference": reference, "metric": metric.path, **bounds}


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
