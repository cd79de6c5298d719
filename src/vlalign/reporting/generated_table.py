"""What generated pictures score, as a table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlalign.evaluation.benchmark import ALL, Metric, MetricRow
from vlalign.evaluation.metrics import read_folder
from vlalign.generation.metrics import METRICS, NAME, REAL
from vlalign.params import Folders, Params
from vlalign.previous import EVALUATION
from vlalign.reporting.cells import MISSING, Cell, Row, Table, number, spread_cell
from vlalign.reporting.stats import spread

SECTION = "Text to image"
# By metric and group.
Rows = dict[tuple[str, str], MetricRow]


def generation_tables(params: Params, folders: Folders) -> list[Table]:
    """A row for each run that generates pictures, one for real pictures, and one for what guessing scores; no table
    where the params generate none.
    """
    if params.generation is None:
        return []
    found = {
        run: [_rows(folders.run(run, seed) / "generation") for seed in params.all_runs[run].seeds]
        for run in params.generation.runs
    }
    every = [rows for seeds in found.values() for rows in seeds if rows]
    columns = [metric for metric in METRICS if any((metric.name, ALL) in rows for rows in every)]
    if not columns:
        return []
    lines = [Row(run, tuple(_spread(seeds, metric) for metric in columns)) for run, seeds in found.items()]
    first = every[0]
    real = [Cell(number(first[metric.name, REAL].value, digits=metric.digits)) for metric in columns]
    chances = [(first[metric.name, ALL].chance, metric.digits) for metric in columns]
    guessed = [Cell(MISSING if value is None else number(value, digits=digits)) for value, digits in chances]
    lines += [Row("real pictures", tuple(real), kind="chance"), Row("chance", tuple(guessed), kind="chance")]
    count, decoder = first[columns[0].name, ALL].n or 0, params.generation.decoder
    judge = f" The judge of the CLIP score is {params.generation.judge}." if params.generation.judge else ""
    return [
        Table(
            "generation",
            "Pictures from captions",
            f"{count:,} captions of the split {params.generation.split} through {decoder.kind} ({decoder.model}). FID: "
            "lower is better, and depends on its features and on the number of pictures; that of real pictures is of "
            "one half of them to the other. CLIP score: mean cosine of caption and picture; chance is that of a "
            f"caption and another's picture.{judge} Mean ± sample standard deviation over seeds.",
            ("run", *(metric.label for metric in columns)),
            tuple(lines),
            list(_records(found, params)),
            section=SECTION,
        )
    ]


def _spread(seeds: Iterable[Rows], metric: Metric) -> Cell:
    values = [rows[metric.name, ALL].value for rows in seeds if (metric.name, ALL) in rows]
    return spread_cell(spread(values) if values else None, digits=metric.digits)


def _rows(folder: Path) -> Rows:
    """Empty where nothing was generated."""
    if not (folder / EVALUATION).is_file():
        return {}
    return {(row.metric, row.group): row for row in read_folder(folder)[1][NAME].rows}


def _records(found: Mapping[str, Sequence[Rows]], params: Params) -> Iterator[dict[str, Any]]:
    for run, seeds in found.items():
        for seed, rows in zip(params.all_runs[run].seeds, seeds, strict=True):
            for row in rows.values():
                told = row.model_dump(include={"metric", "group", "value", "n", "chance"})
                yield {"run": run, "seed": seed, **told}
