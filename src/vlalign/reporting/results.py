"""What tables, figures and the report read: the runs, and their collected metrics."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlalign.errors import VlalignError
from vlalign.params import RunParams, describe, flat_params
from vlalign.records import check_file, check_record, read_record
from vlalign.reporting.cells import shown
from vlalign.reporting.headline import Metric
from vlalign.reporting.metrics import read_reasons
from vlalign.reporting.stats import Difference, Spread, paired_difference, spread

# Of a run, which its record vouches for.
WEIGHTS = "model.safetensors"

Collected = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """One seed of one run, as its run.json describes it."""

    directory: Path
    name: str
    arm: str
    seed: int
    ablation: dict[str, Any] | None
    params: dict[str, Any]
    record: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Grid:
    """One ablation: the runs in which one parameter of one arm takes different values."""

    name: str
    param: str
    arm: str
    points: tuple[tuple[Any, str], ...]
    changed: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1

    @property
    def remark(self) -> str:
        """What else tells its runs from the arm's, in words; such runs compare with each other alone."""
        remark = "Everything else as in the arm."
        if self.changed:
            changes = "; ".join(f"{name} = {shown(value)}" for name, value in sorted(self.changed.items()))
            remark = f"All of its runs also have {changes}: compare them with each other, not with the arms."
        return remark + (" One seed for each value: differences may be noise." if self.seeds == 1 else "")


@dataclass(frozen=True)
class Results:
    """Collected metrics beside the runs they came from, and the two arms that others are compared with."""

    metrics: Collected
    runs: tuple[Run, ...]
    baseline: str
    control: str

    @cached_property
    def arms(self) -> list[str]:
        """Runs that belong to no ablation: baseline, control, then the others as they were given."""
        names = dict.fromkeys(run.name for run in self.runs if run.ablation is None)
        leading = [name for name in dict.fromkeys((self.baseline, self.control)) if name in names]
        return leading + [name for name in names if name not in leading]

    @cached_property
    def grids(self) -> list[Grid]:
        """Ablations by name, their points in the order of their values."""
        return ablation_grids(self.runs)

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds that any run has."""
        return sorted({run.seed for run in self.runs})

    @cached_property
    def unmeasured(self) -> dict[tuple[str, str], list[str]]:
        """(benchmark, reason) -> the runs for which the benchmark could not be measured."""
        found: dict[tuple[str, str], list[str]] = {}
        for run in self.runs:
            for entry in read_reasons(run.directory).items():
                found.setdefault(entry, []).append(run.name)
        return {entry: list(dict.fromkeys(names)) for entry, names in found.items()}

    def values(self, run: str, path: str) -> dict[str, float]:
        """Value of a metric by seed; empty where it was not measured."""
        values: dict[str, float] = self.metrics.get(run, {}).get(path, {}).get("values", {})
        return values

    def spread(self, run: str, path: str) -> Spread | None:
        """Mean and standard deviation over seeds; None where the metric was not measured."""
        values = self.values(run, path)
        return spread(values.values()) if values else None

    def difference(self, run: str, path: str, *, reference: str) -> Difference | None:
        """Difference to another run, paired by seed; None where they share no seed."""
        return paired_difference(self.values(run, path), self.values(reference, path))

    def measured(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Those of `metrics` that any run has."""
        return [metric for metric in metrics if any(metric.path in self.metrics.get(run.name, {}) for run in self.runs)]

    def chance(self, metric: Metric) -> float | None:
        """What guessing scores. It depends on the test set alone, so the first run that knows it tells it."""
        for run in dict.fromkeys(run.name for run in self.runs):
            means = {path: entry["mean"] for path, entry in self.metrics.get(run, {}).items()}
            if metric.path in means:
                return metric.chance(means)
        return None


# What the record of a run must hold, and of which type.
RECORD: dict[str, type | tuple[type, ...]] = {
    "run": str,
    "arm": str,
    "seed": int,
    "ablation": (dict, type(None)),
    "params": dict,
}


def read_run(directory: str | Path) -> Run:
    """Read run.json of one seed's directory. Raises VlalignError when it is missing or damaged, or stands in the place
    of another run.
    """
    file = Path(directory) / "run.json"
    again = "delete the run and train it again"
    record = read_record(file, remedy=again)
    for key, kind in RECORD.items():
        if key not in record or not isinstance(record[key], kind):
            raise VlalignError(f"{file} has no {key!r} as a run has; {again}")
    place, folder = ("runs", record["run"], f"seed-{record['seed']}"), Path(os.path.abspath(directory)).parts[-3:]
    if folder[:1] == ("runs",) and folder != place:
        raise VlalignError(
            f"{directory} holds seed {record['seed']} of {record['run']}: folders were moved; move them back, or "
            "delete them and run the workflow again"
        )
    if missing := {"name", "param", "value"} - set(record["ablation"] or ("name", "param", "value")):
        raise VlalignError(f"{file}: its ablation has no {', '.join(sorted(missing))}; {again}")
    if "history.csv" in record.get("files", {}):
        check_file(file.with_name("history.csv"), record["files"]["history.csv"], record=file, remedy=again)
    return Run(
        directory=Path(directory),
        name=record["run"],
        arm=record["arm"],
        seed=record["seed"],
        ablation=record["ablation"],
        params=record["params"],
        record=record,
    )


def weights_of(run: Run) -> str | None:
    """SHA-256 of the weights that the record of a run vouches for."""
    return run.record.get("files", {}).get(WEIGHTS, {}).get("sha256")


def weights_by_place(run_dirs: Iterable[Path]) -> dict[str, str | None]:
    """For the record of what is made of trained runs: the SHA-256 of their weights by `place_of_run`."""
    return {place_of_run(directory): weights_of(read_run(directory)) for directory in run_dirs}


def check_made_of(record: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """A record of what was made of trained runs, which it names with the SHA-256 of their weights ("weights"), and of
    the files that it vouches for.

    Raises VlalignError when one of the runs has other weights by now, or a file was changed.
    """
    content = check_record(record)
    known = {place_of_run(run.directory): weights_of(run) for run in runs}
    for place, weights in content.get("weights", {}).items():
        if known.get(place, weights) != weights:
            raise VlalignError(f"{record} is of other weights than {place} has; delete it and run the workflow again")
    return content


def place_of_run(directory: Path) -> str:
    """Name and seed of a run by its folder, such as "powerclip/seed-0"."""
    return "/".join(Path(os.path.abspath(directory)).parts[-2:])


def run_params(run: Run) -> RunParams:
    """The params of a run, typed; raises VlalignError when they are damaged."""
    try:
        return RunParams.model_validate(run.params)
    except ValidationError as error:
        file = run.directory / "run.json"
        raise VlalignError(
            f"{file}: its params are not valid; delete the run and train it again:\n{describe(error, of=RunParams)}"
        ) from None


def read_collected(path: str | Path) -> Collected:
    """The metrics of all runs, as `vlalign collect` writes them; raises VlalignError when the file is none of those."""
    metrics = read_record(path)
    try:
        numbers = [
            number
            for entries in metrics.values()
            for entry in entries.values()
            for number in (entry["mean"], *entry["values"].values())
        ]
    except (AttributeError, KeyError, TypeError):
        numbers = [None]
    if not all(map(is_number, numbers)):
        raise VlalignError(f"{path} does not hold collected metrics; delete it and run the workflow again")
    return metrics


def load_results(
    metrics: str | Path, run_dirs: Sequence[str | Path], *, baseline: str = "clip", control: str = "linear"
) -> Results:
    """Read the collected metrics and the run.json of every seed's directory; either comparison arm may be absent."""
    return Results(read_collected(metrics), tuple(map(read_run, run_dirs)), baseline, control)


def ablation_grids(runs: Sequence[Run]) -> list[Grid]:
    """Group the runs of ablations by name; the arm itself joins as a point if it differs in nothing else."""
    grids = []
    for name in sorted({run.ablation["name"] for run in runs if run.ablation}):
        members = [run for run in runs if run.ablation and run.ablation["name"] == name]
        first = members[0].ablation or {}
        grids.append(_grid(name, first["param"], members[0].arm, members=members, runs=runs))
    return grids


def _grid(name: str, param: str, arm: str, *, members: Sequence[Run], runs: Sequence[Run]) -> Grid:
    points = {run.name: run.ablation["value"] for run in members if run.ablation}
    own = next((run for run in runs if run.ablation is None and run.name == arm), None)
    others = differing(own.params, members[0].params) - {param} if own is not None else set()
    if own is not None and not others:
        value = lookup(own.params, param)
        if value not in points.values():
            points[arm] = value
    ordered = sorted(points.items(), key=lambda item: _order(item[1]))
    changed = {other: lookup(members[0].params, other) for other in others}
    seeds = len({run.seed for run in members})
    return Grid(name, param, arm, tuple((value, run) for run, value in ordered), changed, seeds)


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, str(value))


def is_number(value: Any) -> bool:
    """True for finite int and float, not for bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def lookup(params: Mapping[str, Any], dotted: str) -> Any:
    """Return the value under a dotted name, or None where there is none."""
    value: Any = params
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def differing(*params: Mapping[str, Any]) -> set[str]:
    """Dotted names of the params that are not the same in all of `params` that have them."""
    flat = [flat_params(one) for one in params]
    found: dict[str, list[Any]] = {}
    for one in flat:
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name for name, values in found.items() if any(value != values[0] for value in values)}
