"""Gather the metric files of all runs into one file, and put those of one run at the root."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.metrics import Measurement, check_comparable, read_collected, read_metrics
from vlalign.files import json_text, write_text
from vlalign.params.cards import Suite
from vlalign.records import write_record
from vlalign.reporting.results import Results, read_run
from vlalign.reporting.suites import suite_means


def collect(run_dirs: Sequence[str | Path], model_dirs: Sequence[str | Path] = ()) -> list[MetricRow]:
    """The rows of every run and seed, in the order of their names, then those of models as they are given.

    run_dirs: directories of single seeds. model_dirs: of models that were not trained here; each is called as its
    folder, and has the seed 0.
    Raises VlalignError for a missing run.json, a damaged file of metrics, a seed given twice, and runs that were not
    measured on the same data.
    """
    check_comparable(list(map(Path, (*run_dirs, *model_dirs))))
    seen: dict[tuple[str, int], Path] = {}
    rows: list[MetricRow] = []
    for run in sorted(map(read_run, run_dirs), key=lambda run: (run.name, run.seed)):
        if first := seen.get((run.name, run.seed)):
            raise VlalignError(
                f"{run.directory} and {first} are both seed {run.seed} of {run.name}; name one of them only"
            )
        seen[run.name, run.seed] = run.directory
        rows += _named(run.directory, run.name, run.seed)
    for model in map(Path, model_dirs):
        if model.name in {name for name, _ in seen}:
            raise VlalignError(f"{model}: a run is called {model.name} too; give one of them another name")
        rows += _named(model, model.name, 0)
    return rows


def _named(folder: Path, name: str, seed: int) -> list[MetricRow]:
    found = (row for measurement in read_metrics(folder).values() for row in measurement.rows)
    return [row.model_copy(update={"run": name, "seed": seed}) for row in found]


def focus(rows: Iterable[MetricRow], run: str) -> dict[str, dict[str, float]]:
    """Return the headline means of one run as {benchmark: {metric: mean}}, small enough for `dvc metrics diff`.

    Raises VlalignError if `run` was not collected.
    """
    results = Results(list(rows), (), run, run)
    # Where nothing could be measured of any run, there are no rows.
    if results.rows and not results.select(run=run):
        known = ", ".join(sorted({row.run for row in results.rows})) or "none"
        raise VlalignError(f"no metrics were collected for run {run!r}; there are {known}")
    nested: dict[str, dict[str, float]] = {}
    for metric in results.headline:
        if spread := results.spread(run, metric):
            nested.setdefault(metric.benchmark, {})[metric.key] = round(spread.mean, 4)
    return nested


def collect_metrics(run_dirs: Sequence[str | Path], output: str | Path, model_dirs: Sequence[str | Path] = ()) -> None:
    """Write what `collect` gives as JSON."""
    write_record(output, Measurement(rows=collect(run_dirs, model_dirs)).content())


def focus_files(metrics: str | Path, run_dir: str | Path, output: str | Path, suites: Sequence[Suite] = ()) -> None:
    """Write `metrics.json`, `focus.json` (effective params) and `focus.csv` (history) of one run into `output`.

    suites: whose means stand in `metrics.json` too, from the metrics of all its seeds beside `run_dir`.

    They have the same names whatever the run, so that `dvc metrics diff`, `dvc params diff` and `dvc plots` compare
    experiments.
    """
    for name, text in focus_texts(metrics, run_dir, suites).items():
        write_text(Path(output) / name, text)


def focus_texts(metrics: str | Path, run_dir: str | Path, suites: Sequence[Suite] = ()) -> dict[str, str]:
    """What `focus_files` writes, by name."""
    run, history = read_run(run_dir), Path(run_dir) / "history.csv"
    if not history.is_file():
        raise VlalignError(f"{history} does not exist; train the run again")
    rows = read_collected(metrics)
    # Folders of other seeds may be left from before.
    seeds = sorted({run.seed, *(row.seed for row in rows if row.run == run.name and row.seed is not None)})
    folders = [Path(run_dir).with_name(f"seed-{seed}") for seed in seeds]
    means = {f"suite-{suite.name}": found for suite in suites if (found := suite_means(suite, folders))}
    return {
        "metrics.json": json_text({**focus(rows, run.name), **means}),
        "focus.json": json_text({"run": run.name, **run.params}),
        "focus.csv": history.read_text(encoding="utf-8"),
    }
