"""What models get on the cards of a suite, beside what was published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import ALL, Metric, MetricRow, known_benchmarks
from vlalign.evaluation.metrics import OF_CARD, read_folder
from vlalign.params import Folders, Params
from vlalign.params.cards import Card, Suite
from vlalign.previous import EVALUATION
from vlalign.reporting.cells import MISSING, Cell, Row, Table, number, spread_cell, turned
from vlalign.reporting.results import read_run
from vlalign.reporting.stats import spread

SECTION = "Benchmarks"


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
    place = folder / OF_CARD.format(task=task, card=card)
    if not (place / EVALUATION).is_file():
        return Result(reason="not measured yet")
    measured, found = read_folder(place)
    if task not in found:
        raise VlalignError(f"{place / EVALUATION} names no {task}.json; delete {place} and evaluate again")
    rows = {(row.group, row.metric): row for row in found[task].rows if row.stratum == ALL}
    return Result(rows, measured, found[task].not_measured or "")


def suite_table(
    suite: Suite, subjects: Sequence[Subject], missing: Mapping[tuple[str, str], str] | None = None
) -> Table:
    """Models by cards, with the mean over the cards where all were measured, and published numbers with the difference.

    missing: why there is no number, by subject and card, whatever lies in their folders; they keep their place.
    """
    missing = missing or {}
    results = {
        (one.name, card.name): _results(one, suite.task, card, missing.get((one.name, card.name), ""))
        for one in subjects
        for card in suite.cards
    }
    names = [name for name, _, _ in suite.columns()] + (["mean"] if _is_averaged(suite) else [])
    rows: list[Row] = []
    for one in subjects:
        values = _values(suite, {card.name: results[one.name, card.name] for card in suite.cards})
        cells = [_cell(results, one, column, suite.task) for column in suite.columns()]
        rows.append(Row(one.name, (*cells, *_mean_cell(values))))
        if theirs := suite.published.get(one.published):
            rows += _beside(one.published, theirs, {name: _mean(values[name]) for name in names})
    named = {one.published for one in subjects}
    rows += [_published(name, names, numbers) for name, numbers in suite.published.items() if name not in named]
    if suite.chance_level:
        rows += _chance(suite, results)
    rows += _shuffled(suite, results)
    titles = [_title(card, metric, suite) for _, card, metric in suite.columns()]
    has_any = any(one.rows for found in results.values() for one in found)
    table = Table(
        f"suite-{suite.name}",
        suite.title,
        " ".join(_sentences(suite, subjects, results)),
        ("model", *titles, *names[len(titles) :]),
        tuple(rows) if has_any or missing else (),
        list(_records(suite, subjects, results)),
        section=SECTION,
    )
    return turned(table, corner="benchmark")


def suite_tables(params: Params, run_dirs: Iterable[Path], folders: Folders, *, base: Path) -> list[Table]:
    """The table of every suite of the params, of runs and all models; base: folder that paths of sources count from."""
    evaluation, files = params.evaluation, base / params.evaluation.files
    suites = evaluation.suites
    seeds: dict[str, list[Path]] = {}
    for directory in run_dirs if suites else ():
        seeds.setdefault(read_run(directory).name, []).append(directory)
    published = params.report.published
    subjects = [Subject(name, tuple(found), published.get(name, "")) for name, found in seeds.items()]
    subjects += [
        Subject(name, (folders.model(name),), published.get(name, ""), spec.trained_on)
        for name, spec in params.models.items()
    ]
    tables = []
    for suite in suites:
        absent = {
            one.name: evaluation.absent(one, folders.cards / one.name, suite.task, files=files) for one in suite.cards
        }
        missing = {(one.name, card): why for one in subjects for card, why in absent.items() if why}
        tables.append(suite_table(suite, subjects, missing))
    return tables


def suite_means(suite: Suite, folders: Sequence[Path]) -> dict[str, float]:
    """The mean over seeds of every column that was measured, and "mean", rounded for `dvc metrics diff`."""
    results = {card.name: [read_result(one, suite.task, card.name) for one in folders] for card in suite.cards}
    means = {name: _mean(found) for name, found in _values(suite, results).items()}
    return {name: round(value, 4) for name, value in means.items() if value is not None}


def _is_averaged(suite: Suite) -> bool:
    """A distance and a share have no mean."""
    return all(_metric(metric, suite.task).unit == "percent" for _, _, metric in suite.columns())


def _results(subject: Subject, task: str, card: Card, reason: str) -> list[Result]:
    if reason:
        return [Result(reason=reason)] * len(subject.folders)
    return [read_result(folder, task, card.name) for folder in subject.folders]


def _place(metric: str) -> tuple[str, str]:
    group, _, name = metric.rpartition("/")
    return group or ALL, name


def _values(suite: Suite, results: Mapping[str, Sequence[Result]]) -> dict[str, list[float | None]]:
    """By column, and of their "mean" where they have one, the number of each seed; None where it was not measured.

    results: of each seed, by card.
    """
    found: dict[str, list[float | None]] = {}
    for name, card, metric in suite.columns():
        rows = (one.rows.get(_place(metric)) for one in results[card.name])
        found[name] = [None if row is None else row.value for row in rows]
    if _is_averaged(suite):
        seeds = zip(*found.values(), strict=True)
        # Over fewer columns it would be a mean over other cards.
        found["mean"] = [None if None in seed else sum(filter(None, seed)) / len(found) for seed in seeds]
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_cell(values: Mapping[str, Sequence[float | None]]) -> list[Cell]:
    if "mean" not in values:
        return []
    known = [value for value in values["mean"] if value is not None]
    return [spread_cell(spread(known)) if known else Cell(MISSING)]


def _cell(
    results: Mapping[tuple[str, str], Sequence[Result]], subject: Subject, column: tuple[str, Card, str], task: str
) -> Cell:
    _, card, metric = column
    rows = [row for one in results[subject.name, card.name] if (row := one.rows.get(_place(metric)))]
    digits = _metric(metric, task).digits
    if len(rows) != 1:
        return spread_cell(spread([row.value for row in rows]), digits=digits) if rows else Cell(MISSING)
    bounds = [number(bound, digits=digits) for bound in (rows[0].low, rows[0].high) if bound is not None]
    return Cell(number(rows[0].value, digits=digits), f"[{', '.join(bounds)}]" if bounds else "")


def _beside(method: str, theirs: Mapping[str, float], ours: Mapping[str, float | None]) -> Iterable[Row]:
    """Published numbers, and how much more was measured here."""
    yield _published(method, list(ours), theirs)
    differences = (_difference(mine, theirs.get(name)) for name, mine in ours.items())
    shown = (Cell(MISSING if one is None else number(one, signed=True)) for one in differences)
    yield Row(f"difference to {method}", tuple(shown))


def _difference(ours: float | None, published: float | None) -> float | None:
    return None if ours is None or published is None else ours - published


def _published(method: str, names: Iterable[str], numbers: Mapping[str, float]) -> Row:
    cells = (Cell(number(numbers[name]) if name in numbers else MISSING) for name in names)
    return Row(f"{method}, published", tuple(cells))


def _chance(suite: Suite, results: Mapping[tuple[str, str], Sequence[Result]]) -> Iterable[Row]:
    """What guessing scores, as any model that was measured tells it."""
    found: list[float | None] = []
    for _, card, metric in suite.columns():
        rows = (
            one.rows.get(_place(metric)) for (_, name), group in results.items() if name == card.name for one in group
        )
        found.append(next((row.chance for row in rows if row is not None), None))
    if known := [value for value in found if value is not None]:
        mean = [_mean(known) if len(known) == len(found) else None] if _is_averaged(suite) else []
        cells = (Cell(MISSING if value is None else number(value)) for value in (*found, *mean))
        yield Row("chance", tuple(cells), kind="chance")


def _shuffled(suite: Suite, results: Mapping[tuple[str, str], Sequence[Result]]) -> Iterable[Row]:
    """A control where a task has one: the first model with the labels shuffled, which must be near chance."""
    first = next((name for name, _ in results), "")
    found: list[MetricRow | None] = []
    for _, card, metric in suite.columns():
        rows = (one.rows.get(_place(f"{metric}_shuffled")) for one in results.get((first, card.name), ()))
        found.append(next(filter(None, rows), None))
    if any(found):
        mean = [Cell(MISSING)] if _is_averaged(suite) else []
        cells = (Cell(MISSING if row is None else number(row.value)) for row in found)
        yield Row(f"{first}, labels shuffled", (*cells, *mean), kind="chance")


def _metric(metric: str, task: str) -> Metric:
    name = _place(metric)[1]
    return next(one for one in known_benchmarks()[task].metrics if one.name == name)


def _title(card: Card, metric: str, suite: Suite) -> str:
    """Of a column: its card, and what tells it from others of that card."""
    own = [_place(one) for _, other, one in suite.columns() if other is card]
    parts = [_place(metric)[0].replace("_", " ")] if len({group for group, _ in own}) > 1 else []
    parts += [_metric(metric, suite.task).label] if len({name for _, name in own}) > 1 else []
    return f"{card.title}: {', '.join(parts)}" if parts else card.title


def _sentences(
    suite: Suite, subjects: Sequence[Subject], results: Mapping[tuple[str, str], Sequence[Result]]
) -> Iterable[str]:
    protocol = known_benchmarks()[suite.task].protocol
    if protocol:
        yield f"{protocol[:1].upper()}{protocol[1:]}."
    yield "In brackets the 95 % bootstrap interval over the items; with several seeds ± their standard deviation."
    if suite.published and (told := ". ".join(filter(None, (suite.source, suite.setting)))):
        yield f"Published numbers: {told.rstrip('.')}."
    for one in subjects:
        if one.trained_on:
            yield f"{one.name} was trained on {one.trained_on}."
        if len({found.measured.get("weights", "") for found in _first_seed(one, suite, results)}) > 1:
            yield f"{one.name} was measured with different weights, and its numbers do not belong together."
    for card in suite.cards:
        lacking: dict[str, dict[str, None]] = {}
        for one in subjects:
            for found in results[one.name, card.name]:
                if found.reason:
                    lacking.setdefault(found.reason, {})[one.name] = None
        for reason, names in lacking.items():
            of = "" if len(names) == len(subjects) else f" of {', '.join(names)}"
            yield f"{card.title}{of} is missing: {reason.rstrip('.')}."
        if card.remark:
            yield f"{card.title}: {card.remark}"


def _first_seed(
    subject: Subject, suite: Suite, results: Mapping[tuple[str, str], Sequence[Result]]
) -> Iterable[Result]:
    """What was measured of the first seed."""
    found = (results[subject.name, card.name] for card in suite.cards)
    return (group[0] for group in found if group and group[0].rows)


def _records(
    suite: Suite, subjects: Sequence[Subject], results: Mapping[tuple[str, str], Sequence[Result]]
) -> Iterable[dict[str, Any]]:
    """A line for each number, with all that it depends on; the mean over the columns is one too."""
    columns = [(name, card.name, metric) for name, card, metric in suite.columns()]
    for one in subjects:
        of_cards = {card.name: results[one.name, card.name] for card in suite.cards}
        values, published = _values(suite, of_cards), suite.published.get(one.published, {})
        for name, card, metric in (*columns, ("mean", "mean", "mean")):
            for seed, value in enumerate(values.get(name, ())):
                found = of_cards[card][seed] if card in of_cards else Result(reason="a column is missing")
                row = found.rows.get(_place(metric))
                yield {
                    "suite": suite.name,
                    "model": one.name,
                    "trained_on": one.trained_on,
                    "seed": seed,
                    "card": card,
                    "metric": metric,
                    "value": value,
                    **{key: row and getattr(row, key) for key in ("low", "high", "n", "chance")},
                    "published": published.get(name),
                    "difference": _difference(value, published.get(name)),
                    "missing": "" if value is not None else found.reason or "this metric was not measured",
                    **{key: found.measured.get(key, "") for key in ("precision", "weights", "card_digest")},
                }
