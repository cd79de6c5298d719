"""What a benchmark is. Every benchmark is one module of `vlalign.evaluation.benchmarks`, which holds its params, the
data that it needs, what it measures, and the tables that show it.

Modules of benchmarks are imported wherever params are read, so they import torch in the functions that use it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from vlalign.errors import VlalignError
from vlalign.params.base import Strict, describe
from vlalign.registry import Registered, plugins

if TYPE_CHECKING:
    from vlalign.evaluation.workbench import Workbench

PACKAGE = "vlalign.evaluation.benchmarks"
# Thresholds, centres and classifiers come from this split, whichever is measured.
TUNING_SPLIT = "validation"
# What a task learns from, such as a linear probe.
TRAINING_SPLIT = "train"
# The group and the stratum of what was measured over everything.
ALL = "all"
# In a column of a table: one column for each group that was measured.
EACH = "*"

Kind = Literal["pairs", "classes", "composition", "phrases"]
Direction = Literal["higher", "lower"]
# Where each kind of data lies: phrases below the annotations, the others below the dataset.
FOLDERS: dict[Kind, str] = {
    "pairs": "{split}",
    "classes": "zeroshot/{split}",
    "composition": "composition/{split}",
    "phrases": "phrases/{split}",
}


def manifest_of(kind: Kind, split: str, *, data: Path, annotations: Path | None) -> Path | None:
    """The manifest of data of a kind; None for annotations where there are none."""
    root = annotations if kind == "phrases" else data
    return root and root / FOLDERS[kind].format(split=split) / "manifest.json"


class AbsentError(VlalignError):
    """The data that a benchmark needs are not there; the message says which and how to get them."""


class UnmeasurableError(VlalignError):
    """The data that a benchmark needs are there, but too few or too alike to measure it; the message says how."""


class MetricRow(Strict, strict=True):
    """One number that was measured.

    metric: its name. group: of which group of what is measured, such as a class, a category or a kind of phrase.
    stratum: of which stratum of the images. n: how many items it is the mean of. chance: what guessing scores, in the
    unit of the metric. low, high: 95 % bootstrap interval over the items. The direction that is better and the
    benchmark are those of the metric; run and seed are those of the run, and empty in its own files.

    items: what each item scored (0-1), of which `value` is the mean in percent; blocks: integers, where it is the mean
    of the blocks' means. They are kept in a file of their own, so that models can be compared item by item.
    """

    metric: str
    value: float
    group: str = ALL
    stratum: str = ALL
    n: int | None = None
    chance: float | None = None
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None
    benchmark: str = ""
    run: str = ""
    seed: int | None = None
    items: Any = Field(default=None, exclude=True, repr=False)
    blocks: Any = Field(default=None, exclude=True, repr=False)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Of what it is the value in any run: benchmark, metric, group and stratum."""
        return self.benchmark, self.metric, self.group, self.stratum


@dataclass(frozen=True)
class Metric:
    """What a benchmark measures: how it is called, its unit, the direction that is better, and decimals that are shown.

    headline: whether the report, the model card and metrics.json lead with it, or with that of one `group` alone.
    """

    name: str
    label: str
    unit: Literal["percent", "distance", "similarity", "nats", "count", "ratio"] = "percent"
    direction: Direction | None = "higher"
    digits: int = 1
    headline: bool = False
    group: str = ALL
    stratum: str = ALL
    benchmark: str = ""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """That of the rows that are its values."""
        return self.benchmark, self.name, self.group, self.stratum

    @property
    def key(self) -> str:
        """Its name in metrics.json, with its group where it is that of one."""
        return self.name if self.group == ALL else f"{self.group}_{self.name}"


@dataclass(frozen=True)
class ScoreTable:
    """A table of the report, and a CSV file: a row for each arm, below each other for each stratum if there are any.

    name: of the CSV file. section: the heading of the report that it stands below. columns: metrics; one with the group
    `EACH` has a column for each group. counted: a metric that tells how large a stratum is.
    """

    name: str
    title: str
    caption: str
    section: str
    columns: tuple[Metric, ...]
    counted: Metric | None = None


@dataclass(frozen=True)
class Needs:
    """The data that a benchmark measures on: kinds of data of the split, and of the tuning split.

    phrases: annotated, with known referents; token features are kept for them. apart: whether the split that is
    measured must not be the tuning split. training: kinds of data of the training split, for what is learned first.
    optional: kinds of data of the tuning split that are used where there are any.
    """

    split: tuple[Kind, ...]
    tuning: tuple[Kind, ...] = ()
    apart: bool = False
    training: tuple[Kind, ...] = ()
    optional: tuple[Kind, ...] = ()

    def data(self, split: str, has: Callable[[Kind, str], bool] | None = None) -> list[tuple[Kind, str]]:
        """(kind of data, split) of all that is read where `split` is measured.

        has: tells which kinds of data there are of a split, for those that are optional; without it these are left out.
        """
        learned = [(kind, TRAINING_SPLIT) for kind in self.training]
        tuned = [(kind, TUNING_SPLIT) for kind in self.tuning]
        tuned += [(kind, TUNING_SPLIT) for kind in self.optional if has is not None and has(kind, TUNING_SPLIT)]
        return list(dict.fromkeys([*learned, *tuned, *((kind, split) for kind in self.split)]))

    def lacks(self, split: str, has: Callable[[Kind, str], bool]) -> str | None:
        """Why a split cannot be measured, where `has` tells which kinds of data there are of a split."""
        if self.apart and split == TUNING_SPLIT:
            return f"it learns from {split}; measure another split"
        missing = (FOLDERS[kind].format(split=part) for kind, part in self.data(split) if not has(kind, part))
        folder = next(missing, None)
        return folder and f"there is no {folder}/manifest.json; make this split or leave the benchmark out"


class Benchmark(Registered):
    """One task on which encoders are measured."""

    demanded: ClassVar = ("measure",)
    # Its params, below `evaluation.params`.
    Params: ClassVar[type[Strict]] = Strict
    # Benchmarks are measured, and shown, by rank and then by name.
    rank: ClassVar[int] = 100
    needs: ClassVar[Needs] = Needs(())
    # How it is measured, in a sentence that stands beside every number of it.
    protocol: ClassVar[str] = ""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    tables: ClassVar[tuple[ScoreTable, ...]] = ()

    def __init__(self, params: Any = None) -> None:
        self.params = self.Params() if params is None else params

    def measure(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """Rows of `metrics`, in the order in which tables show their groups and strata.

        Raises UnmeasurableError where the data are too few or too alike, and AbsentError where something is missing.
        """
        raise NotImplementedError

    def rows(self, bench: "Workbench", split: str) -> list[MetricRow]:
        """What was measured, checked and complete but for the run."""
        known, found = {metric.name: metric for metric in self.metrics}, {}
        try:
            rows = self.measure(bench, split)
        except ValidationError as error:
            raise VlalignError(f"benchmark {self.name}: a row is not valid:\n{describe(error, of=MetricRow)}") from None
        for row in rows:
            if row.metric not in known or row.place in found:
                problem = "stands there twice" if row.place in found else "is not among its metrics"
                raise VlalignError(f"benchmark {self.name}: {row.metric} of {row.group} {problem}; correct its module")
            found[row.place] = row.model_copy(update={"benchmark": self.name, "direction": known[row.metric].direction})
        return [_with_interval(row) for row in found.values()]


def _with_interval(row: MetricRow) -> MetricRow:
    from vlalign.evaluation.bootstrap import interval

    if row.items is None:
        return row
    low, high = interval(row.items, row.blocks)
    return row.model_copy(update={"low": 100.0 * low, "high": 100.0 * high})


def known_benchmarks() -> dict[str, type[Benchmark]]:
    """All benchmarks by name, in the order in which they are measured."""
    return dict(sorted(plugins(Benchmark, PACKAGE).items(), key=lambda item: (item[1].rank, item[0])))


def headline(benchmarks: Iterable[str]) -> list[Metric]:
    """The few metrics of these benchmarks that tables, figures and the summary lead with."""
    named = set(benchmarks)
    kinds = ((name, kind) for name, kind in known_benchmarks().items() if name in named)
    return [replace(metric, benchmark=name) for name, kind in kinds for metric in kind.metrics if metric.headline]
