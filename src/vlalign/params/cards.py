"""Benchmarks as cards: on which data sets models are measured, how, and what was published; one YAML file each."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from vlalign.errors import VlalignError
from vlalign.params.base import REPOSITORY, Many, Name, PathText, Strict, describe
from vlalign.params.data import VerifyParams
from vlalign.params.reading import read
from vlalign.params.sources import AnySource

if TYPE_CHECKING:
    BenchmarkName = str
    BENCHMARKS: dict[str, Any] = {}
    FOLDERS: dict[str, str] = {}
else:
    benchmark = import_module("vlalign.evaluation.benchmark")
    BENCHMARKS, FOLDERS = benchmark.known_benchmarks(), benchmark.FOLDERS
    BenchmarkName = Literal[tuple(BENCHMARKS)]

# The folder of the cards that come along, and what it lies in.
CARDS, CHECKOUT = "config/benchmarks", Path(__file__).parents[3]
# Of one card, and of one list of cards, below a folder of cards.
CARD, SUITE = "{}.yaml", "suites/{}.yaml"
# Published pictures are as they are, thin cuttings of ARO among them, and all of them count.
VERIFY = VerifyParams(max_bad_share=0.0, max_ratio=10_000.0, min_side=1, max_characters=100_000)
Split = Literal["train", "validation", "test"]
Kind = TypeVar("Kind", bound=Strict)
# What every sample has of the kinds of data that need something.
NEEDED: dict[str, Literal["captions", "classes"]] = {"pairs": "captions", "classes": "classes"}


class Counts(Strict):
    """How many there are in the split that is measured, as published; what is left out is not compared."""

    images: Many | None = None
    captions: Many | None = None
    classes: Many | None = None
    items: Many | None = Field(default=None, description="Hard negatives over all categories")


class Card(Strict):
    """One data set that models are measured on; its name is that of its file."""

    name: Name
    title: str = Field(description="How tables call it")
    tasks: Annotated[tuple[BenchmarkName, ...], Field(min_length=1)] = Field(description="Benchmarks that it is for")
    sources: Annotated[dict[Split, AnySource], Field(min_length=1)] = Field(
        description="Where each split comes from; paths count from `evaluation.files`"
    )
    split: Literal["validation", "test"] = Field(default="test", description="The split that is measured")
    counts: Counts = Field(default=Counts(), description="Published counts; others are an error that says both")
    metrics: tuple[str, ...] = Field(
        default=(), description="Metrics that tables show, as metric or group/metric; the task's headlines if left out"
    )
    templates: tuple[str, ...] = Field(
        default=(), description="Prompts with {c} in the class's place, where the data bring none or others are meant"
    )
    remark: str = Field(default="", description="What to know when numbers are compared")
    licence: str = ""
    citation: str = ""
    homepage: str = ""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Card":
        if self.split not in self.sources:
            raise ValueError(f"split: there is no source for {self.split}; name one of {', '.join(self.sources)}")
        if len({self.kind_of(task) for task in self.tasks}) > 1:
            raise ValueError("tasks: they need data of different kinds; write a card for each kind")
        if need := NEEDED.get(self.kind_of(self.tasks[0])):
            for split, source in self.sources.items():
                if reason := source.lacks(need):
                    raise ValueError(f"sources.{split}: {reason}")
        refuse_twice("metrics", self.metrics)
        known = {task: {metric.name for metric in BENCHMARKS[task].metrics} for task in self.tasks}
        for metric in (metric.rpartition("/")[2] for metric in self.metrics):
            if not any(metric in names for names in known.values()):
                near = get_close_matches(metric, {name for names in known.values() for name in names}, n=1, cutoff=0)
                raise ValueError(f"metrics: {metric!r} is measured by none of its tasks; nearest: {''.join(near)}")
        for template in self.templates:
            if "{c}" not in template:
                raise ValueError(f"templates: {template!r} lacks {{c}}, where the name of a class comes")
        return self

    def measured(self) -> dict[str, Any]:
        """What its numbers depend on, as plain JSON values; where the data come from, their manifests say."""
        return self.model_dump(mode="json", include={"name", "split", "counts", "templates"})

    @staticmethod
    def kind_of(task: str) -> str:
        """The kind of data that a task measures."""
        return str(BENCHMARKS[task].needs.split[0])

    def places(self, task: str = "") -> dict[str, Any]:
        """The source of each split, or of those that a task reads, by the split's folder below that of the card."""
        pattern = FOLDERS[self.kind_of(self.tasks[0])]
        read = set(self.sources)
        if task:
            needs = BENCHMARKS[task].needs
            read = {split for _, split in needs.data(self.split, lambda _, one: one in self.sources)}
        return {pattern.format(split=split): source for split, source in self.sources.items() if split in read}

    def absent(self, folder: Path, task: str, *, files: Path) -> str:
        """Why a task cannot be measured, as far as can be told without asking anybody; empty where it can.

        folder: of the card's splits. files: folder from which the paths of its sources count.
        """
        for place, source in self.places(task).items():
            if (folder / place / "manifest.json").is_file():
                continue
            for check in source.located(files).checks().values():
                try:
                    check()
                except (VlalignError, OSError) as error:
                    reason = str(error) if isinstance(error, VlalignError) else f"{error.filename} is not there"
                    return f"{reason}; it is to be had at {self.homepage}" if self.homepage else reason
        return ""


class Suite(Strict):
    """Cards that are reported together, with their mean; its name is that of its file."""

    name: Name
    title: str
    task: BenchmarkName
    cards: Annotated[tuple[Card, ...], Field(min_length=1)] = Field(description="Names of cards")
    metrics: tuple[str, ...] = Field(default=(), description="In place of those of its cards")
    chance_level: bool = Field(default=True, description="Whether tables have a row for what guessing scores")
    source: str = Field(default="", description="Where the published numbers stand")
    setting: str = Field(default="", description="Of the published numbers: training data, towers, protocol")
    published: dict[str, dict[str, float]] = Field(
        default={}, description="Method: column (a card, or card/metric, or `mean`): number"
    )

    @model_validator(mode="after")
    def _cards_fit(self) -> "Suite":
        # A column that stands there twice would count twice in the mean.
        refuse_twice("cards", (card.name for card in self.cards))
        refuse_twice("metrics", self.metrics)
        for card in self.cards:
            if self.task not in card.tasks:
                raise ValueError(f"cards: {card.name} is for {', '.join(card.tasks)}, not for {self.task}")
        columns = {"mean", *(column for column, _, _ in self.columns())}
        for method, numbers in self.published.items():
            if unknown := [column for column in numbers if column not in columns]:
                near = get_close_matches(unknown[0], columns, n=1, cutoff=0)
                raise ValueError(f"published.{method}: there is no column {unknown[0]!r}; nearest: {''.join(near)}")
        return self

    def columns(self) -> list[tuple[str, Card, str]]:
        """(column, card, metric) of its table; a column is called by its card, and its metric if there are several."""
        found = []
        for card in self.cards:
            metrics = self.metrics or card.metrics or headlines(self.task)
            found += [(f"{card.name}/{metric}" if len(metrics) > 1 else card.name, card, metric) for metric in metrics]
        return found


def refuse_twice(key: str, names: Iterable[str]) -> None:
    """Raises ValueError for the first name that stands twice in a list."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{key}: {name} stands there twice; remove one")
        seen.add(name)


def headlines(task: str) -> tuple[str, ...]:
    """The metrics that a task leads with, as metric or group/metric."""
    leading = (metric for metric in BENCHMARKS[task].metrics if metric.headline)
    return tuple(metric.name if metric.group == "all" else f"{metric.group}/{metric.name}" for metric in leading)


def read_card(name: str, folders: Iterable[str | Path]) -> Card:
    """The card of that name; raises VlalignError that names the file and the keys at fault, or the nearest name."""
    path = _find(name, CARD, folders, what="card")
    return _valid(Card, {**_content(path), "name": name}, path)


def read_suite(name: str, folders: Iterable[str | Path]) -> Suite:
    """The suite of that name with its cards; raises VlalignError as `read_card` does."""
    folders = list(folders)
    path = _find(name, SUITE, folders, what="suite")
    content = _content(path)
    names = content.get("cards")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise VlalignError(f"{path}: cards: give the names of cards")
    return _valid(Suite, {**content, "name": name, "cards": [read_card(one, folders) for one in names]}, path)


def read_suites(name: str, folders: Iterable[str | Path]) -> list[Suite]:
    """The suite of that name, or else a suite of the card of that name alone for each of its tasks; raises VlalignError
    as `read_card` does.
    """
    folders = list(folders)
    if name in known(SUITE, folders) or name not in known(CARD, folders):
        return [read_suite(name, folders)]
    card = read_card(name, folders)
    several = len(card.tasks) > 1
    return [
        Suite(name=f"{name}-{task}" if several else name, title=card.title, task=task, cards=(card,))
        for task in card.tasks
    ]


def known(pattern: str, folders: Iterable[str | Path]) -> dict[str, Path]:
    """The files of cards (`CARD`) or suites (`SUITE`) by name; of two of one name, that of the later folder."""
    place = Path(pattern)
    paths = (path for folder in folders for path in sorted((_folder(folder) / place.parent).glob("*.yaml")))
    return {path.stem: path for path in paths}


def _folder(folder: str | Path) -> Path:
    """The cards that come along are found from any working directory."""
    path = Path(folder)
    return CHECKOUT / CARDS if path == Path(CARDS) and not path.is_dir() else path


def _find(name: str, pattern: str, folders: Iterable[str | Path], *, what: str) -> Path:
    folders = list(folders)
    files = known(pattern, folders)
    if name not in files:
        near = ", ".join(get_close_matches(name, files, n=3, cutoff=0.4)) or ", ".join(sorted(files)[:30]) or "none"
        raise VlalignError(
            f"there is no {what} '{name}' in {', '.join(map(str, folders))}; nearest: {near}. A {what} is one file, "
            f"{pattern.format('<name>')}"
        )
    return files[name]


def _content(path: Path) -> dict[str, Any]:
    content = read(path)
    if "name" in content:
        raise VlalignError(f"{path}: name: cards and suites are called by their files; remove this key")
    return content


def _valid(kind: type[Kind], content: Mapping[str, Any], path: Path) -> Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise VlalignError(f"{path} is not valid:\n{describe(error, of=kind, given=content)}") from None


class EvaluatedModel(Strict):
    """A model that was not trained here, to be measured beside the runs: a folder, a repository of the hub, or towers
    with a file or a tag of weights.
    """

    folder: PathText | None = Field(default=None, description="Holds open_clip_config.json and weights")
    hub: Annotated[str, Field(pattern=REPOSITORY)] | None = Field(
        default=None, description="Repository of the Hugging Face hub, owner and name"
    )
    revision: str = Field(default="main", description="Branch, tag or commit of the repository; a commit pins it")
    tower: str | dict[str, Any] | None = Field(
        default=None, description="An open_clip model name, or a JSON file of an open_clip config"
    )
    pretrained: PathText | None = Field(
        default=None, description="Weights of `tower`: a tag of open_clip, or a file; random ones if left out"
    )
    pooling: Literal["average", "default"] | None = Field(
        default=None, description="That it was trained with; may be left out where a config or a tag says it"
    )
    activation: Literal["gelu", "quick-gelu"] | None = Field(
        default=None, description="That it was trained with; may be left out where a config or a tag says it"
    )
    seed: int = Field(default=0, ge=0, description="Of random weights")
    trained_on: str = Field(default="", description="Data and samples that it has seen, shown beside its numbers")

    def local(self) -> list[str]:
        """Its folder and files on this disk."""
        named = (self.folder, self.tower if isinstance(self.tower, str) else None, self.pretrained)
        return [path for path in named if path is not None and Path(path).exists()]

    @model_validator(mode="after")
    def _is_in_one_place(self) -> "EvaluatedModel":
        if sum(one is not None for one in (self.folder, self.hub, self.tower)) != 1:
            raise ValueError("give one of `folder`, `hub` and `tower`")
        if self.pretrained is not None and self.tower is None:
            raise ValueError("pretrained: weights need a `tower`; a folder or a repository brings its own")
        return self
