"""What models get on the cards of a suite, beside what was published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlalign.evaluation.benchmark import ALL, Metric, MetricRow, known_benchmarks
from vlalign.evaluation.metrics import read_folder
from vlalign.params import Folders, Params
from vlalign.params.cards import Card, Suite
from vlalign.previous import EVALUATION
from vlalign.reporting.cells import MISSING, Cell, Row, Table, number, spread_cell, turned
from vlalign.reporting.results import read_run
from vlalign.reporting.stats import spread

SECTION = "Benchmarks"
# Below the folder of a run or a model, of one task on one card.
CELL = "benchmarks/{task}/{card}"


@dataclass(frozen=True)
class Subject:
    """A row of the tables: a model, or an arm with its seeds. folders: of the model, or of each seed. published: the
    method whose published numbers stand beside its own. trained_on: what it has seen.
    """

    name: str
    folders: tuple[Path, ...]
    published: str = ""
    trained_on: str = ""


@dataclass(frozen=True)
class Result:
    """What one model got on one card: rows by (group, metric), of what they are, or why there are none."""

    rows: Mapping[tuple[str, str], MetricRow] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


def read_result(folder: Path, task: str, card: str) -> Result:
    """What stands below the folder of a model; raises VlalignError when it was damaged or changed."""
    place = folder / CELL.format(task=task, card=card)
    if not (place / EVALUATION).is_file():
        return Result(reason="not measured yet")
    measured, found = read_folder(place)
    rows = {(row.group, row.metric): row for row in found[task].rows if row.stratum == ALL}
    return Result(rows, measured, found[task].not_measured or "")


def suite_table(suite: Suite, subjects: Sequence[Subject], absent: Mapping[str, str] | None = None) -> Table:
    """Models by cards, with the mean over the cards where all were measured, and published numbers with the difference.

    absent: why cards could not be measured, by their names; they keep their place in the table.
    """
    columns = suite.columns()
    results = {(one.name, card.name): _results(one, suite.task, card) for one in subjects for card in suite.cards}
    averaged = _is_averaged(suite)
    rows: list[Row] = []
    for one in subjects:
        values = {name: _values(results[one.name, card.name], metric) for name, card, metric in columns}
        means = _means(values) if averaged else []
        cells = [_cell(results, one, column) for column in columns]
        rows.append(Row(one.name, (*cells, spread_cell(spread(means)) if means else Cell(MISSING))))
        if theirs := suite.published.get(one.published):
            ours = {name: _mean(found) for name, found in values.items()} | {"mean": _mean(means)}
            rows += _beside(one.published, theirs, ours)
    named = {one.published for one in subjects}
    rows += [_published(name, suite, numbers) for name, numbers in suite.published.items() if name not in named]
    if suite.chance_level:
        rows += _chance(columns, results, averaged=averaged)
    rows += _shuffled(columns, results)
    titles = [_title(card, metric, suite) for _, card, metric in columns]
    table = Table(
        f"suite-{suite.name}",
        suite.title,
        " ".join(_sentences(suite, results, absent or {})),
        ("model", *titles, "mean"),
        tuple(rows) if any(found.rows for group in results.values() for found in group) or absent else (),
        list(_records(suite, subjects, results)),
        section=SECTION,
    )
    return turned(table, corner="benchmark")


def suite_tables(params: Params, run_dirs: Iterable[Path], folders: Folders, *, base: Path) -> list[Table]:
    """The table of every suite of the params, of all runs and models; base: folder that paths of sources count from."""
    suites, files = params.evaluation.suites, base / params.evaluation.files
    seeds: dict[str, list[Path]] = {}
    for directory in run_dirs if suites else ():
        seeds.setdefault(read_run(directory).name, []).append(directory)
    published = params.report.published
    subjects = [Subject(name, tuple(found), published.get(name, "")) for name, found in seeds.items()]
    subjects += [
        Subject(name, (folders.model(name),), published.get(name, ""), spec.trained_on)
        for name, spec in params.models.items()
    ]
    absent = {
        (suite.name, card.name): card.absent(folders.cards / card.name, suite.task, files=files)
        for suite in suites
        for card in suite.cards
    }
    return [
        suite_table(suite, subjects, {card: why for (name, card), why in absent.items() if name == suite.name and why})
        for suite in suites
    ]


def suite_means(suite: Suite, folders: Sequence[Path]) -> dict[str, float]:
    """The mean over seeds of every column that was measured, and "mean", rounded for `dvc metrics diff`."""
    results = {card.name: [read_result(one, suite.task, card.name) for one in folders] for card in suite.cards}
    values = {name: _values(results[card.name], metric) for name, card, metric in suite.columns()}
    found = {**values, "mean": _means(values)} if _is_averaged(suite) else values
    return {name: round(sum(some) / len(some), 4) for name, some in found.items() if some}


def _is_averaged(suite: Suite) -> bool:
    """A distance and a share have no mean."""
    return all(_metric(metric, card).unit == "percent" for _, card, metric in suite.columns())


def _results(subject: Subject, task: str, card: Card) -> list[Result]:
    return [read_result(folder, task, card.name) for folder in subject.folders]


def _place(metric: str) -> tuple[str, str]:
    group, _, name = metric.rpartition("/")
    return group or ALL, name


def _values(results: Iterable[Result], metric: str) -> list[float]:
    """Of each seed that was measured."""
    return [row.value for found in results if (row := found.rows.get(_place(metric)))]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _means(values: Mapping[str, Sequence[float]]) -> list[float]:
    """The mean over the columns, of each seed; none where a column lacks a seed, as it would be over other cards."""
    if len({len(found) for found in values.values()}) != 1:
        return []
    return [sum(found) / len(found) for found in zip(*values.values(), strict=True)]


def _cell(results: Mapping[tuple[str, str], list[Result]], subject: Subject, column: tuple[str, Card, str]) -> Cell:
    _, card, metric = column
    found = results[subject.name, card.name]
    values, digits = _values(found, metric), _metric(metric, card).digits
    if len(values) != 1:
        return spread_cell(spread(values), digits=digits) if values else Cell(MISSING)
    row = next(one.rows[_place(metric)] for one in found if _place(metric) in one.rows)
    bounds = [number(bound, digits=digits) for bound in (row.low, row.high) if bound is not None]
    return Cell(number(row.value, digits=digits), f"[{', '.join(bounds)}]" if bounds else "")


def _beside(method: str, theirs: Mapping[str, float], ours: Mapping[str, float | None]) -> Iterable[Row]:
    """Published numbers, and how much more was measured here."""
    pairs = [(theirs.get(name), mine) for name, mine in ours.items()]
    yield Row(f"{method}, published", tuple(Cell(MISSING if one is None else number(one)) for one, _ in pairs))
    differences = [None if None in pair else pair[1] - pair[0] for pair in pairs]  # type: ignore[operator]
    shown = (Cell(MISSING if one is None else number(one, signed=True)) for one in differences)
    yield Row(f"difference to {method}", tuple(shown))


def _published(method: str, suite: Suite, numbers: Mapping[str, float]) -> Row:
    names = [*(name for name, _, _ in suite.columns()), "mean"]
    cells = (Cell(number(numbers[name]) if name in numbers else MISSING) for name in names)
    return Row(f"{method}, published", tuple(cells))


def _chance(
    columns: Sequence[tuple[str, Card, str]], results: Mapping[tuple[str, str], list[Result]], *, averaged: bool
) -> Iterable[Row]:
    """What guessing scores, as any model that was measured tells it."""
    found: list[float | None] = []
    for _, card, metric in columns:
        rows = (
            one.rows.get(_place(metric)) for (_, name), group in results.items() if name == card.name for one in group
        )
        found.append(next((row.chance for row in rows if row is not None), None))
    known = [value for value in found if value is not None]
    if not known:
        return
    cells = [Cell(MISSING if value is None else number(value)) for value in found]
    mean = Cell(number(sum(known) / len(known)) if averaged and len(known) == len(found) else MISSING)
    yield Row("chance", (*cells, mean), kind="chance")


def _shuffled(
    columns: Sequence[tuple[str, Card, str]], results: Mapping[tuple[str, str], list[Result]]
) -> Iterable[Row]:
    """A control where a task has one: the first model with the labels shuffled, which must be near chance."""
    name = next(iter(results), ("", ""))[0]
    found = [
        next((one.rows[_place(f"{metric}_shuffled")] for one in results[name, card.name] if _has(one, metric)), None)
        for _, card, metric in columns
    ]
    if any(found):
        cells = (Cell(MISSING if row is None else number(row.value)) for row in found)
        yield Row(f"{name}, labels shuffled", (*cells, Cell(MISSING)), kind="chance")


def _has(result: Result, metric: str) -> bool:
    return _place(f"{metric}_shuffled") in result.rows


def _metric(metric: str, card: Card) -> Metric:
    name = _place(metric)[1]
    known = (one for task in card.tasks for one in known_benchmarks()[task].metrics)
    return next(one for one in known if one.name == name)


def _title(card: Card, metric: str, suite: Suite) -> str:
    several = len(suite.metrics or card.metrics) > 1 or sum(one is card for _, one, _ in suite.columns()) > 1
    group, _ = _place(metric)
    label = _metric(metric, card).label if group == ALL else group.replace("_", " ")
    return f"{card.title}: {label}" if several else card.title


def _sentences(
    suite: Suite, results: Mapping[tuple[str, str], list[Result]], absent: Mapping[str, str]
) -> Iterable[str]:
    protocol = known_benchmarks()[suite.task].protocol
    if protocol:
        yield f"{protocol[:1].upper()}{protocol[1:]}."
    yield "In brackets the 95 % bootstrap interval over the items; with several seeds ± their standard deviation."
    if suite.published:
        yield f"Published numbers: {suite.source}. {suite.setting}".strip()
    for card in suite.cards:
        reasons = {found.reason: None for (_, name), group in results.items() if name == card.name for found in group}
        reason = absent.get(card.name) or "; ".join(filter(None, reasons))
        if reason:
            yield f"{card.title} is missing: {reason}."
        if card.remark:
            yield f"{card.title}: {card.remark}"


def _records(
    suite: Suite, subjects: Sequence[Subject], results: Mapping[tuple[str, str], list[Result]]
) -> Iterable[dict[str, Any]]:
    """A line for each number, with all that it depends on."""
    for one in subjects:
        for name, card, metric in suite.columns():
            for number_of_seed, found in enumerate(results[one.name, card.name]):
                row = found.rows.get(_place(metric))
                yield {
                    "suite": suite.name,
                    "model": one.name,
                    "trained_on": one.trained_on,
                    "seed": number_of_seed,
                    "card": card.name,
                    "metric": metric,
                    "value": row and row.value,
                    "low": row and row.low,
                    "high": row and row.high,
                    "n": row and row.n,
                    "chance": row and row.chance,
                    "published": suite.published.get(one.published, {}).get(name),
                    "missing": "" if row else found.reason or "this metric was not measured",
                    "precision": found.measured.get("precision", ""),
                    "weights": found.measured.get("weights", ""),
                    "card_digest": found.measured.get("card_digest", ""),
                }
