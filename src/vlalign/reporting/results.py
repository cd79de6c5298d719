"""What tables, figures and the report read: the runs, and their collected metrics."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import ALL, Metric, MetricRow, headline
from vlalign.evaluation.metrics import read_collected, read_metrics
from vlalign.params import RunParams, describe, flat_params
from vlalign.records import check_file, check_record, read_record
from vlalign.reporting.cells import shown
from vlalign.reporting.stats import Difference, Spread, paired_difference, spread

# Of a run, which its record vouches for.
WEIGHTS = "model.safetensors"


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
    """Rows of metrics beside the runs that they came from, and the two arms that others are compared with."""

    rows: Sequence[MetricRow]
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
    def models(self) -> list[str]:
        """What was measured beside the runs."""
        trained = {run.name for run in self.runs}
        return list(dict.fromkeys(row.run for row in self.rows if row.run not in trained))

    @property
    def subjects(self) -> list[str]:
        """The rows of tables: arms, then models that were not trained here."""
        return [*self.arms, *self.models]

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
            for benchmark, measurement in read_metrics(run.directory).items():
                if measurement.not_measured is not None:
                    found.setdefault((benchmark, measurement.not_measured), []).append(run.name)
        return {entry: list(dict.fromkeys(names)) for entry, names in found.items()}

    def select(self, **wanted: str | int) -> list[MetricRow]:
        """The rows that have these values of run, seed, benchmark, metric, group and stratum."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in wanted.items())]

    @cached_property
    def headline(self) -> list[Metric]:
        """The headline metrics that any run has."""
        return [metric for metric in headline(row.benchmark for row in self.rows) if metric.place in self._by_place]

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str, str], dict[str, dict[int, MetricRow]]]:
        """The rows by what they are values of, run and seed."""
        found: dict[tuple[str, str, str, str], dict[str, dict[int, MetricRow]]] = {}
        for row in self.rows:
            found.setdefault(row.place, {}).setdefault(row.run, {})[row.seed or 0] = row
        return found

    def values(self, run: str, metric: Metric) -> dict[int, float]:
        """Value of a metric by seed; empty where it was not measured."""
        rows = self._by_place.get(metric.place, {}).get(run, {})
        return {seed: row.value for seed, row in rows.items()}

    def spread(self, run: str, metric: Metric) -> Spread | None:
        """Mean and standard deviation over seeds; None where the metric was not measured."""
        values = self.values(run, metric)
        return spread(values.values()) if values else None

    def difference(self, run: str, metric: Metric, *, reference: str) -> Difference | None:
        """Difference to another run, paired by seed; None where they share no seed."""
        return paired_difference(self.values(run, metric), self.values(reference, metric))

    def chance(self, metric: Metric) -> float | None:
        """What guessing scores. It depends on the test set alone, so that any run tells it."""
        rows = (row for seeds in self._by_place.get(metric.place, {}).values() for row in seeds.values())
        return next((row.chance for row in rows), None)

    def groups(self, benchmark: str, metric: str) -> list[str]:
        """The groups that a metric was measured for, in the benchmark's order."""
        return list(dict.fromkeys(row.group for row in self.select(benchmark=benchmark, metric=metric)))

    def strata(self, benchmark: str) -> list[str]:
        """The strata that a benchmark was measured on, all images first."""
        return list(dict.fromkeys([ALL, *(row.stratum for row in self.select(benchmark=benchmark))]))


class AblationRecord(BaseModel, strict=True):
    """Of which grid a run is, in its run.json."""

    name: str
    param: str
    value: Any


class RunRecord(BaseModel, strict=True):
    """What run.json holds, as far as it is read here."""

    run: str
    arm: str
    seed: int
    ablation: AblationRecord | None
    params: dict[str, Any]
    files: dict[str, dict[str, Any]] = {}
    versions: dict[str, Any] = {}
    parameters: dict[str, int] = {}
    git_commit: str | None = None


def read_run(directory: str | Path) -> Run:
    """Read run.json of a run's folder; raises VlalignError where it is missing, damaged or in another's place."""
    file, again = Path(directory) / "run.json", "delete the run and train it again"
    record = read_record(file, remedy=again)
    try:
        typed = RunRecord.model_validate(record)
    except ValidationError as error:
        raise VlalignError(f"{file} is not the record of a run; {again}:\n{describe(error, of=RunRecord)}") from None
    place, folder = ("runs", typed.run, f"seed-{typed.seed}"), Path(os.path.abspath(directory)).parts[-3:]
    if folder[:1] == ("runs",) and folder != place:
        raise VlalignError(
            f"{directory} holds seed {typed.seed} of {typed.run}: folders were moved; move them back, or "
            "delete them and run the workflow again"
        )
    if "history.csv" in typed.files:
        check_file(file.with_name("history.csv"), typed.files["history.csv"], record=file, remedy=again)
    ablation = typed.ablation.model_dump() if typed.ablation else None
    return Run(Path(directory), typed.run, typed.arm, typed.seed, ablation, typed.params, record)


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
        problem = f"its params are not valid; delete the run and train it again:\n{describe(error, of=RunParams)}"
        raise VlalignError(f"{run.directory / 'run.json'}: {problem}") from None


def load_results(
    metrics: str | Path, run_dirs: Sequence[str | Path], *, baseline: str = "clip", control: str = "linear"
) -> Results:
    """Read the collected metrics and the run.json of every seed's directory; either comparison arm may be absent."""
    return Results(read_collected(metrics), tuple(map(read_run, run_dirs)), baseline, control)


def ablation_grids(runs: Sequence[Run]) -> list[Grid]:
    """Group the runs of ablations by name; the arm itself joins as a point if it differs in nothing else."""
    names = sorted({run.ablation["name"] for run in runs if run.ablation})
    return [_grid([run for run in runs if run.ablation and run.ablation["name"] == name], runs) for name in names]


def _grid(members: Sequence[Run], runs: Sequence[Run]) -> Grid:
    first, arm = members[0].ablation or {}, members[0].arm
    param = first["param"]
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
    return Grid(first["name"], param, arm, tuple((value, run) for run, value in ordered), changed, seeds)


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
    found: dict[str, list[Any]] = {}
    for name, value in (item for one in params for item in flat_params(one).items()):
        found.setdefault(name, []).append(value)
    return {name for name, values in found.items() if any(value != values[0] for value in values)}
