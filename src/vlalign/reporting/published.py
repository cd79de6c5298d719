"""Numbers that the papers report, kept apart from what was measured here."""

from importlib import resources
from typing import Any

import yaml

from vlalign.reporting.cells import MISSING, Cell, Row, Table


def published_tables() -> list[Table]:
    """One table for each setting in published.yaml; every one names its source."""
    text = resources.files("vlalign.reporting").joinpath("published.yaml").read_text(encoding="utf-8")
    return [_table(entry) for entry in yaml.safe_load(text)["tables"]]


def _table(entry: dict[str, Any]) -> Table:
    columns: list[str] = entry["columns"]
    rows, records = [], []
    for method, values in entry["rows"].items():
        rows.append(Row(method, tuple(Cell(MISSING if value is None else f"{value}") for value in values)))
        known = ((column, value) for column, value in zip(columns, values, strict=True) if value is not None)
        records += [{"method": method, "metric": column, "value": v, "source": entry["source"]} for column, v in known]
    caption = f"{entry['setting']} Source: {entry['source']}."
    return Table(f"published-{entry['name']}", entry["title"], caption, ("method", *columns), tuple(rows), records)
