"""The whole of params.yaml: which runs there are, and what is measured and reported of them."""

import contextlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, create_model, model_validator

from vlalign.errors import VlalignError
from vlalign.files import check_writable
from vlalign.params.annotate import AnnotateParams
from vlalign.params.base import (
    NAME_LENGTH,
    Count,
    Few,
    Name,
    OneOf,
    PathText,
    Positive,
    Samples,
    Seed,
    Share,
    Strict,
    describe,
    digest,
    merged,
    nested,
)
from vlalign.params.cards import (
    BENCHMARKS,
    CARDS,
    BenchmarkName,
    Card,
    EvaluatedModel,
    Suite,
    read_suites,
    refuse_twice,
)
from vlalign.params.data import Dataset, ScenesParams, SplitsParams, VerifyParams
from vlalign.params.generation import GenerationParams
from vlalign.params.reading import read_change, read_layers
from vlalign.params.run import ModelParams, ObjectiveParams, RunParams, RuntimeParams, TrainParams
from vlalign.params.sources import Source
from vlalign.registry import plugins, summary

if TYPE_CHECKING:
    from vlalign.reporting.figure import Figure
else:
    Figure = import_module("vlalign.reporting.figure").Figure

MOST_RUNS = 10_000
FIGURES = "vlalign.reporting.figures"


class Arm(Strict):
    """What an arm changes, and how many of the seeds of `runs` it is trained with."""

    like: Name | None = Field(default=None, description="Arm whose changes count here too, below these")
    most_seeds: Few | None = Field(default=None, description="The first so many seeds of `runs`; all if left out")
    model: dict[str, Any] = Field(default={})
    train: dict[str, Any] = Field(default={})
    objective: dict[str, Any] = Field(default={})

    def changes(self) -> dict[str, Any]:
        """Its own part of a run's params."""
        return self.model_dump(exclude={"like", "most_seeds"})


class Ablation(Strict):
    """A grid over one param of an arm."""

    name: Name
    arm: Name
    param: str = Field(max_length=200, description="Path of the param below an arm, such as objective.powerset.tau")
    values: tuple[Any, ...] = Field(min_length=1)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = Field(
        default=None, description="Those of `runs` if left out"
    )
    set: dict[str, Any] = Field(default={}, description="Further changes to every run of this grid")

    def run_name(self, value: Any) -> str:
        """`tau-0.001`: the grid's name and the value, as the run's folder and DVC experiment are called."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = f"{value:.12g}" if number else json.dumps(value, ensure_ascii=False)
        name = f"{self.name}-" + re.sub(r"[^\w.+-]+", "-", text).strip("-")
        if len(name.encode()) > NAME_LENGTH:
            raise ValueError(
                f"ablations.{self.name}: a run's name holds its value, and would be {len(name.encode())} bytes long "
                f"({name:.50}...); at most {NAME_LENGTH} can be"
            )
        return name


class Selection(Strict):
    """What `all` makes."""

    arms: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    ablations: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _nothing_twice(self) -> "Selection":
        for key in ("arms", "seeds", "ablations"):
            if twice := [value for value, count in Counter(getattr(self, key)).items() if count > 1]:
                raise ValueError(f"{key}: {twice[0]!r} stands there more than once")
        return self


if TYPE_CHECKING:
    BenchmarkParams = Strict
else:
    KEYS = {
        name.replace("-", "_"): (kind.Params, Field(default=kind.Params(), description=summary(kind)))
        for name, kind in BENCHMARKS.items()
        if kind.Params.model_fields
    }
    BenchmarkParams = create_model(
        "BenchmarkParams", __base__=Strict, __doc__="A key for every benchmark that has params.", **KEYS
    )


def _read_suites(value: Any, info: ValidationInfo) -> Any:
    """The content of the suites and cards that are named stands in the place of their names."""
    folders = info.data.get("cards", ())
    try:
        return [suite for one in value for suite in (read_suites(one, folders) if isinstance(one, str) else [one])]
    except VlalignError as error:
        raise ValueError(str(error)) from None


Suites = Annotated[tuple[Suite, ...], BeforeValidator(_read_suites, json_schema_input_type=list[str])]


class EvaluationParams(Strict):
    """What is measured, and on which split."""

    split: Literal["validation", "test"] = "test"
    benchmarks: Annotated[tuple[BenchmarkName, ...], Field(min_length=1)] | None = Field(
        default=None, description="All that the dataset has what they need for, if left out"
    )
    params: BenchmarkParams = Field(default=BenchmarkParams(), description="How they are measured")
    batch_size: Count = 250
    cards: Annotated[tuple[PathText, ...], Field(min_length=1)] = Field(
        default=(CARDS,), description="Folders of cards; of two cards of one name, that of the later folder counts"
    )
    suites: Suites = Field(
        default=(), description="Names of suites, or of single cards, on which every run and every model is measured"
    )
    files: PathText = Field(
        default="published", description="Folder of the data sets that cards take from files in their published form"
    )
    left_out: dict[Name, Annotated[str, Field(min_length=1)]] = Field(
        default={}, description="Cards of the suites that cannot be had, and why: they are not measured, tables say so"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="Arithmetic of the towers on cards; auto: bf16 on GPUs, fp32 on CPUs"
    )

    @model_validator(mode="after")
    def _left_out_cards_exist(self) -> "EvaluationParams":
        known = sorted({card.name for _, card in self.cells()})
        for name in self.left_out:
            if name not in known:
                near = "".join(f"; nearest: {one}" for one in get_close_matches(name, known, n=1, cutoff=0))
                raise ValueError(f"left_out: no suite has a card {name}{near}")
        return self

    @model_validator(mode="after")
    def _cards_of_one_name_are_one(self) -> "EvaluationParams":
        refuse_twice("suites", (suite.name for suite in self.suites))
        for (_, card), (_, other) in itertools.combinations(self.cells(), 2):
            if card.name == other.name and card != other:
                raise ValueError(f"suites: two of them have different cards {card.name}; rename one")
        return self

    def cells(self) -> list[tuple[str, Card]]:
        """(task, card) of all that the suites ask for, each once."""
        every = ((suite.task, card) for suite in self.suites for card in suite.cards)
        return list({(task, card.name): (task, card) for task, card in every}.values())

    def absent(self, card: Card, folder: Path, task: str, *, files: Path) -> str:
        """Why a task is not measured on a card, as far as can be told without asking anybody; empty where it is.

        folder: of the card's splits. files: folder from which the paths of its sources count.
        """
        if why := self.left_out.get(card.name):
            return f"left out: {why}"
        return card.absent(folder, task, files=files)

    def named(self, wanted: Collection[str] | None = None) -> dict[str, Strict]:
        """The benchmarks that are wanted, or else asked for, all if none are, with their params."""
        wanted = self.benchmarks if wanted is None else wanted
        names = [name for name in BENCHMARKS if wanted is None or name in wanted]
        return {name: getattr(self.params, name.replace("-", "_"), Strict()) for name in names}


class PrecisionParams(Strict):
    """How far each aggregator is from the exact powerset."""

    taus: tuple[Positive, ...] = Field(default=(1.0, 0.1, 0.01, 0.001), min_length=1)
    zetas: tuple[Share, ...] = Field(default=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0), min_length=1)
    regions: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(4, 6, 8, 10, 12), min_length=1)
    samples: tuple[Samples, ...] = Field(default=(8, 16, 64), min_length=1)
    calibration_samples: Samples = Field(default=16, description="Subsets that calibrate ζ")
    pairs: Count = Field(default=64, description="Image-caption pairs that are averaged over")
    seed: Seed = 0


AnyFigure = Annotated[Figure, OneOf(FIGURES, key="figure")]
NamedFigure = Annotated[
    AnyFigure,
    BeforeValidator(
        lambda value: {"figure": value} if isinstance(value, str) else value, json_schema_input_type=str | AnyFigure
    ),
]


class TestsParams(Strict):
    """Differences that were chosen to be tested: every arm against every reference by every metric."""

    # Its name is no test's.
    __test__: ClassVar[bool] = False

    arms: tuple[Name, ...] = Field(min_length=1)
    references: tuple[Name, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1, description="benchmark.metric, or benchmark.metric.group")

    @model_validator(mode="after")
    def _metrics_are_known(self) -> "TestsParams":
        for name in self.metrics:
            benchmark, metric = name.split(".")[:2] if name.count(".") in (1, 2) else ("", "")
            known = {one.name for one in BENCHMARKS[benchmark].metrics} if benchmark in BENCHMARKS else set()
            if metric not in known:
                others = known or {f"{one}.…" for one in BENCHMARKS}
                raise ValueError(f"metrics: {name} is no benchmark.metric; there are {', '.join(sorted(others))}")
        return self


class ReportParams(Strict):
    """What the report compares with, and which figures it has."""

    baseline: Name = "clip"
    control: Name = Field(default="linear", description="The arm without subsets")
    figures: tuple[NamedFigure, ...] | None = Field(
        default=None, description="Names of figures, or their params; all whose benchmarks are measured, if left out"
    )
    tests: TestsParams | None = Field(
        default=None, description="Differences that are tested, and corrected for how many they are"
    )
    precision: PrecisionParams = PrecisionParams()
    published: dict[Name, str] = Field(
        default={},
        max_length=1000,
        description="Arm or model: method of a suite whose published numbers stand beside it",
    )


class Params(Strict):
    """The whole of params.yaml."""

    root: PathText = Field(default=".", description="Everything that the workflow writes lies below this folder")
    focus: Name = Field(description="The run whose metrics become metrics.json")
    runs: Selection
    dataset: Name = Field(default="scenes", description="One of `datasets`")
    datasets: dict[Name, Dataset] = Field(
        default={"scenes": ScenesParams()}, max_length=1000, description="Where data come from"
    )
    annotate: AnnotateParams = AnnotateParams()
    model: ModelParams
    train: TrainParams = TrainParams()
    objective: ObjectiveParams = ObjectiveParams()
    runtime: RuntimeParams = RuntimeParams()
    arms: dict[Name, Arm] = Field(max_length=1000, description="Changes to model, train and objective, by arm")
    ablations: tuple[Ablation, ...] = Field(default=(), max_length=1000)
    evaluation: EvaluationParams = EvaluationParams()
    models: dict[Name, EvaluatedModel] = Field(
        default={}, max_length=1000, description="Models that were not trained here, measured beside the runs"
    )
    generation: GenerationParams | None = Field(
        default=None, description="Pictures from the captions of a split; none if left out"
    )
    report: ReportParams = ReportParams()

    @model_validator(mode="after")
    def _runs_are_not_too_many(self) -> "Params":
        grids = (grid for grid in self.ablations if grid.name in self.runs.ablations)
        trained = len(self.runs.arms) * len(self.runs.seeds)
        trained += sum(len(grid.values) * len(grid.seeds or self.runs.seeds) for grid in grids)
        if trained > MOST_RUNS:
            raise ValueError(f"runs: {trained:,} runs, each seed one of them; at most {MOST_RUNS:,} can be")
        return self

    @model_validator(mode="after")
    def _arms_are_valid_and_names_exist(self) -> "Params":
        for name, arm in self.arms.items():
            if arm.like is not None and (arm.like not in self.arms or self.arms[arm.like].like):
                kind = "is like another itself; give that one" if arm.like in self.arms else "is no arm"
                raise ValueError(f"arms.{name}.like: {arm.like} {kind}")
        for name in self.arms:
            self._run_params(name, is_run=name in self._arms_run)
        for key, wanted, known in self._references():
            for name in wanted:
                if name not in known:
                    raise ValueError(f"{key}: '{name}' is not one of {', '.join(sorted(known)) or 'none'}")
        return self

    def _references(self) -> Iterator[tuple[str, tuple[str, ...], set[str]]]:
        """(key, the names it gives, the names there are); the runs come last, since they need the arms to exist."""
        yield "dataset", (self.dataset,), set(self.datasets)
        yield "runs.arms", self.runs.arms, set(self.arms)
        yield "runs.ablations", self.runs.ablations, {grid.name for grid in self.ablations}
        for grid in self.ablations:
            yield f"ablations.{grid.name}.arm", (grid.arm,), set(self.arms)
        for key in ("baseline", "control"):
            yield f"report.{key}", (getattr(self.report, key),), set(self.arms)
        yield "focus", (self.focus,), set(self.all_runs)
        if tests := self.report.tests:
            yield "report.tests", (*tests.arms, *tests.references), set(self.arms)
        if self.generation is not None:
            yield "generation.runs", self.generation.runs, set(self.all_runs)
            judges = (self.generation.judge,) if self.generation.judge else ()
            yield "generation.judge", judges, set(self.all_runs) | set(self.models)

    @model_validator(mode="after")
    def _folders_have_one_name_each(self) -> "Params":
        if taken := sorted({"annotations", "benchmarks", "features", "generated", "parser"} & set(self.datasets)):
            raise ValueError(
                f"datasets: the workflow keeps a folder `{taken[0]}` of its own below data; rename this one"
            )
        if both := sorted(set(self.models) & set(self.all_runs)):
            raise ValueError(f"models: {both[0]} is the name of a run too; rename one of them")
        if unknown := sorted(set(self.report.published) - set(self.models) - set(self.all_runs)):
            raise ValueError(f"report.published: {unknown[0]} is neither a run nor one of `models`")
        return self

    @model_validator(mode="after")
    def _benchmarks_and_figures_have_their_data(self) -> "Params":
        for name in self.evaluation.benchmarks or ():
            if name not in self._measurable:
                raise ValueError(
                    f"evaluation.benchmarks: {name} cannot be measured on split {self.evaluation.split} of the dataset "
                    f"{self.dataset}, which has what is needed for {', '.join(self._measurable)}"
                )
        for figure in self.report.figures or ():
            for missing in set(figure.benchmarks) - set(self.benchmarks):
                raise ValueError(f"report.figures: {figure.name} shows the benchmark {missing}, which is not measured")
        names = Counter(name for figure in self.figures for name in figure.names())
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"report.figures: {twice[0]}.svg would be drawn more than once")
        return self

    @model_validator(mode="after")
    def _unpaired_data_exist(self) -> "Params":
        there = {split.replace("/", "_") for split in self.sources} | {"phrases", "regions"}
        for name, run in self.all_runs.items():
            for needed in sorted(set(run.params.needs.folders) - there):
                key = needed.replace("_", ".")
                raise ValueError(
                    f"run {name}: its objective takes {needed.partition('_')[2]} without a partner ({key}), but the "
                    f"dataset {self.dataset} has no source {key}"
                )
        return self

    @model_validator(mode="after")
    def _starts_are_runs(self) -> "Params":
        runs = self.all_runs
        for name, run in runs.items():
            start = run.params.model.start
            if start is None:
                continue
            if start not in runs:
                near = "".join(get_close_matches(start, runs, n=1, cutoff=0))
                raise ValueError(f"run {name}: model.start is {start!r}, which is no run; nearest: {near}")
            first = runs[start]
            if first.params.model.start:
                raise ValueError(f"run {name}: model.start: {start} starts from another run itself; give that one")
            if first.params.model.adapters:
                raise ValueError(
                    f"run {name}: model.start: {start} has `model.adapters` itself; give a run that trains its towers, "
                    "and adapters to single arms, not to all of them"
                )
            if missing := sorted(set(run.seeds) - set(first.seeds)):
                raise ValueError(f"run {name}: model.start: {start} has no seed {missing[0]}; add it there")
            for key in ("tower", "pooling"):
                if getattr(first.params.model, key) != getattr(run.params.model, key):
                    raise ValueError(f"run {name}: model.start: {start} has another model.{key}; give both the same")
        return self

    @model_validator(mode="after")
    def _generating_runs_read_as_the_image_tower_does(self) -> "Params":
        for name in self.generation.runs if self.generation else ():
            model = self.all_runs[name].params.model
            if model.adapters is None or model.adapters.sides != "text":
                raise ValueError(
                    f"generation.runs: {name} trains or adapts its image tower, whose embeddings the decoder would no "
                    "longer know; give it model.adapters with sides: text"
                )
            if model.pooling != "default":
                raise ValueError(
                    f"generation.runs: {name} averages patches, and decoders read what the tower itself pools; give it "
                    "model.pooling: default"
                )
        return self

    @model_validator(mode="after")
    def _published_methods_exist(self) -> "Params":
        methods = {method for suite in self.evaluation.suites for method in suite.published}
        for name, method in self.report.published.items():
            if methods and method not in methods:
                near = "".join(get_close_matches(method, methods, n=1, cutoff=0))
                raise ValueError(f"report.published.{name}: no suite has numbers of {method!r}; nearest: {near}")
        return self

    @property
    def data(self) -> ScenesParams | SplitsParams:
        """The dataset that is used."""
        return self.datasets[self.dataset]

    @property
    def sources(self) -> dict[str, Source]:
        """Where every split of a dataset of one's own comes from, by the split's folder."""
        return self.data.sources() if isinstance(self.data, SplitsParams) else {}

    @property
    def scenes(self) -> ScenesParams:
        """The embedded dataset, with its defaults where another one is used."""
        return self.data if isinstance(self.data, ScenesParams) else ScenesParams()

    @property
    def verify(self) -> VerifyParams:
        """Which samples can be used; the defaults for the embedded dataset, whose samples all can."""
        return self.data.verify if isinstance(self.data, SplitsParams) else VerifyParams()

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """What is measured."""
        return self.evaluation.benchmarks or self._measurable

    @property
    def _measurable(self) -> tuple[str, ...]:
        """The benchmarks for which the dataset has what they need."""
        split, has = self.evaluation.split, self.data.has
        return tuple(name for name, kind in BENCHMARKS.items() if not kind.needs.lacks(split, has))

    def measured(self) -> dict[str, Any]:
        """What `vlalign evaluate` is told, as plain JSON values, without the params of what is not measured."""
        plain = self.evaluation.model_dump(mode="json", include={"split", "benchmarks", "params", "batch_size"})
        keys = {name.replace("-", "_") for name in self.benchmarks}
        params = {name: value for name, value in plain["params"].items() if name in keys}
        return {**plain, "benchmarks": self.benchmarks, "params": params}

    @property
    def cards(self) -> dict[str, Card]:
        """The cards of all suites by name."""
        return {card.name: card for _, card in self.evaluation.cells()}

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn."""
        every = (kind() for kind in plugins(Figure, FIGURES).values() if kind.has_data(self))
        figures = every if self.report.figures is None else self.report.figures
        return tuple(figure.completed(self) for figure in figures)

    @cached_property
    def all_runs(self) -> dict[str, "Run"]:
        """Every selected run by name: the arms, then the grids' values."""
        found = {
            name: Run(name, self._run_params(name), name, seeds=self.runs.seeds[: self.arms[name].most_seeds])
            for name in self.runs.arms
        }
        for grid in (grid for grid in self.ablations if grid.name in self.runs.ablations):
            for value in grid.values:
                name = grid.run_name(value)
                if name in found:
                    raise ValueError(f"ablations.{grid.name}: the run '{name}' exists twice")
                changes = (grid.set, nested(grid.param, value))
                params = self._run_params(grid.arm, *changes, where=f"ablations.{grid.name}")
                found[name] = Run(name, params, grid.arm, grid, value, grid.seeds or self.runs.seeds)
            first, *others = (found[grid.run_name(value)].params.relevant() for value in grid.values[:2])
            if first in others:
                raise ValueError(
                    f"ablations.{grid.name}: {grid.param} means nothing to the arm {grid.arm}: its values would train "
                    "the same run; give another arm"
                )
        return found

    @property
    def _arms_run(self) -> set[str]:
        return {*self.runs.arms, *(grid.arm for grid in self.ablations if grid.name in self.runs.ablations)}

    def _run_params(self, arm: str, *changes: Mapping[str, Any], where: str = "", is_run: bool = True) -> RunParams:
        """is_run: an arm that is not run need not fit what an overlay changes for all of them: its own keys count."""
        base: dict[str, Any] = {"model": {"tower": self.model.tower}}
        if is_run:
            base = {key: getattr(self, key).model_dump() for key in ("model", "train", "objective")}
        like = self.arms[arm].like
        below = [self.arms[like].changes()] if like else []
        try:
            return RunParams.model_validate(merged(base, *below, self.arms[arm].changes(), *changes))
        except ValidationError as error:
            raise ValueError(describe(error, of=RunParams, prefix=where or f"arms.{arm}")) from None


@dataclass(frozen=True)
class Run:
    """A name with its effective params: an arm, or one value of a grid."""

    name: str
    params: RunParams
    arm: str
    grid: Ablation | None = None
    value: Any = None
    seeds: tuple[int, ...] = ()

    @property
    def plugins(self) -> dict[str, tuple[str, ...]]:
        """See `run_plugins`."""
        return run_plugins(self.params)

    def towers(self, seed: int) -> str | None:
        """The name of what its frozen towers give, which runs with equal ones share; None where it trains towers."""
        model = self.params.model
        if model.adapters is None:
            return None
        tokens = "-tokens" if self.params.needs.tokens else ""
        if model.start is not None:
            return f"{model.start}-seed-{seed}{tokens}"
        stem = "towers" if isinstance(model.tower, dict) else re.sub(r"[^\w.-]+", "-", model.tower)
        return f"{stem}-{digest(self.frozen())[:8]}{tokens}"

    def frozen(self) -> dict[str, Any]:
        """The params on which the features of its frozen towers depend, as plain values."""
        apart = {"adapters", "lora", "lock_image", "lock_text", "unlocked_image_groups", "unlocked_text_layers"}
        model = {name: value for name, value in self.params.relevant()["model"].items() if name not in apart}
        return {"model": model, "tokens": self.params.needs.tokens}

    def config(self) -> dict[str, Any]:
        """What run.json holds of it, and what its weights depend on beside data and seed, as plain JSON values."""
        ablation = {"name": self.grid.name, "param": self.grid.param, "value": self.value} if self.grid else None
        return {"run": self.name, "arm": self.arm, "ablation": ablation, "params": self.params.relevant()}

    def changed(self, changes: Mapping[str, Any]) -> "Run":
        """The run with other params under a name of its own; keys that are not of a run count for the name alone.

        Raises VlalignError that names the keys at fault.
        """
        own = {key: value for key, value in changes.items() if key in RunParams.model_fields}
        try:
            params = RunParams.model_validate(merged(self.params.model_dump(), own))
        except ValidationError as error:
            problem = describe(error, of=RunParams, given=own)
            raise VlalignError(f"the run {self.name} cannot be so:\n{problem}") from None
        name = f"{self.name}-{digest([self.config(), changes])[:8]}"
        return replace(self, name=name, params=params, grid=None, value=None)


def run_plugins(params: RunParams) -> dict[str, tuple[str, ...]]:
    """The plug-ins whose code the weights of a run depend on, by kind (see `vlalign.freshness`)."""
    used = {name: term for name, term in params.objective.terms().items() if term.is_used}
    found: dict[str, tuple[str, ...]] = {"terms": tuple(used)}
    for term in used.values():
        for kind, names in term.plugins().items():
            found[kind] = (*found.get(kind, ()), *names)
    return found


def parse(config: Mapping[str, Any], *, source: str = "params.yaml") -> Params:
    """Typed params from plain values; raises VlalignError that names every key at fault."""
    try:
        return Params.model_validate(dict(config))
    except ValidationError as error:
        raise VlalignError(f"{source} is not valid:\n{describe(error, of=Params, given=config)}") from None


def load(*given: str | Path) -> Params:
    """Read params.yaml and what is laid over it key by key: overlays, and texts such as `train.steps=50`.

    Paths in them count from the folder of the first file.
    Raises VlalignError that names the file and every key at fault.
    """
    changes = list(filter(is_change, given))
    files = [Path(path) for path in given if not is_change(path)]
    config = merged({}, *read_layers(*files), *map(read_change, map(str, changes)))
    with contextlib.chdir(files[0].parent if files else Path()):
        return parse(config, source=" + ".join(map(str, given)))


def is_change(given: str | Path) -> bool:
    """Whether this is no params file but KEY=VALUE."""
    return isinstance(given, str) and "=" in given and not os.path.exists(given)


def check_root(params: Params) -> None:
    """Raises VlalignError naming the key when nothing can be written below `root`; makes nothing."""
    try:
        check_writable(Path(params.root))
    except VlalignError as error:
        raise VlalignError(f"root: {error}") from None
    except OSError as error:
        raise VlalignError(f"root: {params.root:.200} cannot be used ({error.strerror}); give another path") from None


def schema() -> dict[str, Any]:
    """JSON Schema of params.yaml; workflow/schemas/params.schema.json is this."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
