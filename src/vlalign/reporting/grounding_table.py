"""Grounding by kind of phrase and stratum, both read from the metric paths."""

from typing import Any

from vlalign.reporting.cells import MISSING, Cell, Row, Table, number, spread_cell, tone
from vlalign.reporting.results import Results

LAST = ("multiple", "all")
EXTRAS = (
    ("one_with_boxes.top_1", "one, boxes too"),
    ("pointing.accuracy", "pointing"),
    ("all.f1", "F1 of set"),
    ("all.exact", "exact set"),
)


def grounding_kinds(results: Results) -> list[str]:
    """Kinds of phrases that a top-k score exists for, the easiest first by chance, those that sum up others last."""
    kinds = {parts[2] for parts in _paths(results) if len(parts) == 4 and parts[3] == "top_k"}
    chance = {kind: _mean(results, f"grounding.centred.{kind}.chance_top_k") or 0.0 for kind in kinds}
    return sorted(kinds, key=lambda kind: (LAST.index(kind) if kind in LAST else -1, -chance[kind], kind))


def grounding_table(results: Results) -> Table:
    """Arms by kind (share of phrases whose k best masks are their referents), for everything and for each stratum."""
    kinds = grounding_kinds(results)
    strata = sorted({parts[2] for parts in _paths(results) if len(parts) == 5 and parts[4] == "top_k"})
    columns = [(f"{kind}.top_k", kind.replace("_", " ")) for kind in kinds]
    columns += [extra for extra in EXTRAS if any(".".join(parts[2:]) == extra[0] for parts in _paths(results))]
    rows: list[Row] = []
    for stratum in ("", *strata):
        prefix = f"grounding.centred.{stratum}{'.' if stratum else ''}"
        rows.append(Row(stratum or "all scenes", kind="group"))
        rows += [Row(arm, tuple(_cell(results, arm, prefix + path) for path, _ in columns)) for arm in results.arms]
        rows.append(Row("chance", tuple(_chance(results, prefix + path) for path, _ in columns), kind="chance"))
    return Table(
        "grounding",
        "Grounding by kind of phrase and stratum",
        "Share of phrases (percent, mean ± SD over seeds) whose k best object masks are exactly their k referents, "
        "with region and phrase features centred. F1 and exact set: the threshold on similarity was tuned on the "
        f"validation split. Coloured where the paired 95 % interval to {results.baseline} excludes zero.",
        ("arm", *(label for _, label in columns)),
        tuple(rows) if kinds else (),
        _records(results),
    )


def _paths(results: Results) -> set[tuple[str, ...]]:
    paths = {path for arm in results.arms for path in results.metrics.get(arm, {})}
    return {tuple(path.split(".")) for path in paths if path.startswith("grounding.centred.")}


def _cell(results: Results, arm: str, path: str) -> Cell:
    difference = None if arm == results.baseline else results.difference(arm, path, reference=results.baseline)
    shade = tone(difference, higher_is_better=True)
    return spread_cell(results.spread(arm, path), tone=shade if shade in ("better", "worse") else "")


def _chance(results: Results, path: str) -> Cell:
    parent, _, leaf = path.rpartition(".")
    name = {"top_k": "chance_top_k", "top_1": "chance", "accuracy": "chance"}.get(leaf, "")
    found = _mean(results, f"{parent}.{name}")
    return Cell(MISSING if found is None else number(found))


def _mean(results: Results, path: str) -> float | None:
    """Of the first arm that has it: for what depends on the test set alone."""
    spreads = (results.spread(arm, path) for arm in results.arms)
    return next((spread.mean for spread in spreads if spread), None)


def _records(results: Results) -> list[dict[str, Any]]:
    records = []
    for arm in results.arms:
        for path in sorted(results.metrics.get(arm, {})):
            spread = results.spread(arm, path) if path.startswith("grounding.") else None
            if spread is not None:
                records.append({"run": arm, "metric": path, "mean": spread.mean, "sd": spread.sd, "n": spread.n})
    return records
