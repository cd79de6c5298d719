"""Numbers as readers see them, and the table that holds them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vlalign.evaluation.benchmark import Direction, Metric
from vlalign.reporting.stats import ABOVE, NOISE, ONE_SEED, Difference, Spread

MISSING = "–"
TONES = {NOISE: "noise", ONE_SEED: "single"}


@dataclass(frozen=True)
class Cell:
    """Text, a smaller note after it, and what its colour says: better, worse, noise, single, chance or nothing."""

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """Name and cells; `kind` is "chance" for a row that was not measured, "group" for one that heads others."""

    name: str
    cells: tuple[Cell, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """What readers see below a heading of the report (section); the same numbers unrounded, for its CSV (records)."""

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    records: Sequence[dict[str, Any]] = field(default=(), repr=False)
    section: str = ""


def turned(table: Table, *, corner: str = "metric") -> Table:
    """The same table with its rows as columns, for many columns and few rows: a page is taller than wide.

    What was not measured stays told apart: cells of a "chance" row get that tone.
    """
    columns = [[replace(cell, tone=cell.tone or row.kind) for cell in row.cells] for row in table.rows]
    rows = tuple(Row(*named) for named in zip(table.header[1:], zip(*columns, strict=True), strict=bool(columns)))
    return replace(table, header=(corner, *(row.name for row in table.rows)), rows=rows)


def number(value: float, *, digits: int = 1, signed: bool = False) -> str:
    """Fixed decimals with a true minus sign; what rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return ("+" if signed and value > 0 else "") + text.replace("-", "−")


def shown(value: Any) -> str:
    """A param as readers see it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else MISSING if value is None else str(value)


def spread_cell(spread: Spread | None, *, digits: int = 1, tone: str = "") -> Cell:
    """`81.5 ± 1.2`, or the mean alone for one seed."""
    if spread is None:
        return Cell(MISSING)
    note = "" if spread.sd is None else f"± {number(spread.sd, digits=digits)}"
    return Cell(number(spread.mean, digits=digits), note, tone)


def difference_cell(difference: Difference | None, *, metric: Metric) -> Cell:
    """`+18.8 [12.1, 25.4]`, toned by its verdict."""
    if difference is None:
        return Cell(MISSING)
    text = number(difference.mean, digits=metric.digits, signed=True)
    note = interval_text(difference, digits=metric.digits)
    return Cell(text, note, tone(difference, direction=metric.direction))


def interval_text(difference: Difference, *, digits: int) -> str:
    """`[12.1, 25.4]`, or nothing for one seed."""
    if difference.low is None or difference.high is None:
        return ""
    nearest = min(abs(difference.low), abs(difference.high))
    if difference.verdict != NOISE and nearest < 0.5 * 10**-digits:
        digits += 1  # or an interval that excludes zero would read as one that touches it
    return f"[{number(difference.low, digits=digits)}, {number(difference.high, digits=digits)}]"


def tone(difference: Difference | None, *, direction: Direction | None) -> str:
    """Say better or worse only where the interval excludes zero and the metric has a direction."""
    return "" if difference is None else tone_of(difference.verdict, direction=direction)


def tone_of(verdict: str, *, direction: Direction | None) -> str:
    """The same of a verdict."""
    if verdict in TONES:
        return TONES[verdict]
    if direction is None:
        return "changed"
    return "better" if (verdict == ABOVE) == (direction == "higher") else "worse"


def units(metrics: Iterable[Metric]) -> str:
    """In which units numbers are, as a sentence."""
    others = [f"{metric.label} ({metric.unit})" for metric in metrics if metric.unit != "percent"]
    return "In percent" + (f", but for {', '.join(others)}." if others else ".")
