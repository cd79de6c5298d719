"""How far each aggregator is from the exact powerset."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured
from vlalign.reporting.precision_file import read_precision

if TYPE_CHECKING:
    from pandas import DataFrame

    from vlalign.reporting.results import Results

DIRECTIONS = {"r2t": "regions to text (R2T)", "t2r": "text to regions (T2R)"}
SWEEPS = {"tau": "temperature τ", "zeta": "ζ", "regions": "regions R"}
FIXED = {"tau": 1e-3, "zeta": 0.75, "regions": 10.0}
FLOOR = 1e-7


class Precision(Figure):
    """The relative error of every aggregator against τ, ζ and the number of regions, a row per kind of features."""

    section = "Precision of the aggregators"
    figure: Literal["precision"] = "precision"

    def names(self) -> tuple[str, ...]:
        """Region-to-text and text-to-region."""
        return tuple(f"{self.name}-{direction}" for direction in DIRECTIONS)

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """The CSV has one row per setting; a parameter that an aggregator does not have is left empty there. While one
        parameter varies the others keep the values of FIXED, or the most frequent one where the CSV lacks those.

        Raises VlalignError when a column is missing.
        """
        table, direction = _labelled(source.precision), name.removeprefix(f"{self.name}-")
        colours = style.palette(dict.fromkeys(table["label"]))
        # An error is empty where the exact scores are all 0.
        table = table[(table["direction"] == direction) & table["error_relative"].notna()]
        if table.empty:
            return style.placeholder(output, f"{source.precision.name} has no rows for {direction}")
        features = list(dict.fromkeys(table["features"]))
        sweeps = [sweep for sweep in SWEEPS if table[sweep].notna().any()]
        shown = list(itertools.product(features, sweeps))
        with style.panels(output, len(shown), columns=len(sweeps), width=3.4, height=2.3, sharey=True) as axes:
            ends = []
            for panel, (kind, sweep) in zip(axes, shown, strict=True):
                ends.append(_draw_sweep(panel, table[table["features"] == kind], sweep, colours=colours))
                if sweep == sweeps[0]:
                    panel.set(title=f"{kind} features", ylabel="relative error")
            for panel, labels in zip(axes, ends, strict=True):
                style.label_ends(panel, labels)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            f"Error of the aggregators, {DIRECTIONS[name.removeprefix(f'{self.name}-')]}",
            "Relative error against the exact powerset, on a logarithmic axis; 1 (dotted) is an error as large as the "
            "value. Dashed: the proven bound, where there is one. Mean knows no subsets: a control.",
            "Exact values by enumerating all subsets; trained features as the run's own loss has them, with its "
            "centring and cost. One parameter varies at a time, the others keep one value; an aggregator without the "
            "parameter is a level line.",
        )


def _labelled(precision: Path) -> "DataFrame":
    """With the name of each line that is drawn."""
    import pandas as pd

    table = read_precision(precision)
    named = zip(table["aggregator"], table["samples"], strict=True)
    return table.assign(label=[name if pd.isna(samples) else f"{name}, {samples:g}" for name, samples in named])


def _draw_sweep(axes: "style.Axes", table: "DataFrame", sweep: str, *, colours: Mapping[str, str]) -> list[style.End]:
    rows = _fixed(table, sweep)
    ends: list[style.End] = []
    for label in dict.fromkeys(rows["label"].tolist()):
        part = rows[rows["label"] == label].sort_values(sweep)
        error = part["error_relative"].clip(lower=FLOOR)
        if part[sweep].isna().all():
            axes.axhline(error.iloc[0], color=colours[label], linewidth=1.5)
        else:
            axes.plot(part[sweep], error, "o-", color=colours[label], linewidth=1.5, markersize=3.5)
            bound = part.dropna(subset="bound_relative")
            if len(bound):
                height = bound["bound_relative"].clip(lower=FLOOR)
                axes.plot(bound[sweep], height, color=colours[label], linewidth=1.0, linestyle="--")
        ends.append((float(error.iloc[-1]), label, colours[label]))
    axes.set(xlabel=SWEEPS[sweep])
    style.logarithmic(axes, "y")
    if style.spans_decades(rows[sweep].dropna().tolist()):
        style.logarithmic(axes, "x")
    axes.axhline(1, color=style.MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.grid(axis="y")
    return ends


def _fixed(table: "DataFrame", sweep: str) -> "DataFrame":
    """The rows that may join a sweep: every other parameter at its fixed value, or empty."""
    rows = table
    for name, wanted in FIXED.items():
        known = table[name].dropna()
        if name != sweep and len(known):
            value = wanted if (known == wanted).any() else known.mode().iloc[0]
            rows = rows[rows[name].isna() | (rows[name] == value)]
    return rows
