"""Numbers that the papers report, kept apart from what was measured here."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from vlalign.params.base import Strict
from vlalign.reporting.cells import MISSING, Cell, Row, Table


class Published(Strict):
    """Two numbers of one column of published.yaml: the rows `arm` and `reference` of `table`."""

    table: str
    column: str
    arm: str
    reference: str

    def pair(self) -> tuple[float, float]:
        """The numbers of the arm and of the reference."""
        entry = next(entry for entry in _entries() if entry["name"] == self.table)
        place = entry["columns"].index(self.column)
        return entry["rows"][self.arm][place], entry["rows"][self.reference][place]


def published_tables() -> list[Table]:
    """One table for each setting in published.yaml; every one names its source."""
    return [_table(entry) for entry in _entries()]


@cache
def _entries() -> list[dict[str, Any]]:
    text = resources.files("vlalign.reporting").joinpath("published.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)["tables"]
    return found


def _table(entry: dict[str, Any]) -> Table:
    columns: list[str] = entry["columns"]
    rows, records = [], []
    for method, values in entry["rows"].items():
        rows.append(Row(method, tuple(Cell(MISSING if value is None else f"{value}") for value in values)))
        known = ((column, value) for column, value in zip(columns, values, strict=True) if value is not None)
        records += [{"method": method, "metric": column, "value": v, "source": entry["source"]} for column, v in known]
    caption = f"{entry['setting']} Source: {entry['source']}."
    return Table(f"published-{entry['name']}", entry["title"], caption, ("method", *columns), tuple(rows), records)
