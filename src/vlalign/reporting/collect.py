"""Gather the metric files of all runs into one dictionary, over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import json_text, write_text
from vlalign.records import write_record
from vlalign.reporting.headline import HEADLINE
from vlalign.reporting.metrics import check_comparable, read_metrics
from vlalign.reporting.results import Collected, read_collected, read_run
from vlalign.reporting.stats import spread


def collect(run_dirs: Sequence[str | Path]) -> Collected:
    """Return {run: {"<benchmark>.<path>.<metric>": {"mean", "sd", "n", "values": {seed: value}}}}.

    `run_dirs` are the directories of single seeds. `sd` is None where a metric has one seed only; percent stays
    percent. Raises VlalignError for a missing run.json, a value that is no finite number, a seed given twice,
    and runs that were not measured on the same data.
    """
    check_comparable(list(map(Path, run_dirs)))
    values: dict[str, dict[str, dict[str, float]]] = {}
    seen: dict[tuple[str, int], Path] = {}
    for run in map(read_run, run_dirs):
        directory = run.directory
        if (run.name, run.seed) in seen:
            first = seen[run.name, run.seed]
            raise VlalignError(f"{directory} and {first} are both seed {run.seed} of {run.name}; name one of them only")
        seen[run.name, run.seed] = directory
        metrics = values.setdefault(run.name, {})
        for path, value in read_metrics(directory):
            metrics.setdefault(path, {})[str(run.seed)] = value
    return {run: {path: _summary(seeds) for path, seeds in metrics.items()} for run, metrics in values.items()}


def focus(metrics: Collected, run: str) -> dict[str, dict[str, float]]:
    """Return the headline means of one run as {benchmark: {metric: mean}}, small enough for `dvc metrics diff`.

    Raises VlalignError if `run` was not collected.
    """
    if run not in metrics:
        raise VlalignError(
            f"no metrics were collected for run {run!r}; there are {', '.join(sorted(metrics)) or 'none'}"
        )
    nested: dict[str, dict[str, float]] = {}
    for metric in HEADLINE:
        if metric.path in metrics[run]:
            nested.setdefault(metric.benchmark, {})[metric.key] = round(metrics[run][metric.path]["mean"], 4)
    return nested


def collect_metrics(run_dirs: Sequence[str | Path], output: str | Path) -> None:
    """Write `collect(run_dirs)` as JSON."""
    write_record(output, collect(run_dirs))


def focus_files(metrics: str | Path, run_dir: str | Path, output: str | Path) -> None:
    """Write `metrics.json`, `focus.json` (effective params) and `focus.csv` (history) of one run into `output`.

    They have the same names whatever the run, so that `dvc metrics diff`, `dvc params diff` and `dvc plots` compare
    experiments.
    """
    for name, text in focus_texts(metrics, run_dir).items():
        write_text(Path(output) / name, text)


def focus_texts(metrics: str | Path, run_dir: str | Path) -> dict[str, str]:
    """What `focus_files` writes, by name."""
    run, history = read_run(run_dir), Path(run_dir) / "history.csv"
    if not history.is_file():
        raise VlalignError(f"{history} does not exist; train the run again")
    return {
        "metrics.json": json_text(focus(read_collected(metrics), run.name)),
        "focus.json": json_text({"run": run.name, **run.params}),
        "focus.csv": history.read_text(encoding="utf-8"),
    }


def _summary(seeds: dict[str, float]) -> dict[str, Any]:
    result = spread(seeds.values())
    return {"mean": result.mean, "sd": result.sd, "n": result.n, "values": seeds}
