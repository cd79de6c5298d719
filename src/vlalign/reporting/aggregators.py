"""How far each aggregator is from the exact powerset."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes

from vlalign.errors import VlalignError
from vlalign.reporting.style import (
    MUTED,
    PALETTE,
    End,
    label_ends,
    logarithmic,
    panels,
    placeholder,
    save,
    spans_decades,
    styled,
)

SWEEPS = {"tau": "temperature τ", "zeta": "ζ", "regions": "regions R"}
# Of the CSV file that `vlalign precision` writes.
COLUMNS = (
    "features",
    "aggregator",
    "direction",
    "tau",
    "zeta",
    "regions",
    "samples",
    "error_relative",
    "bias_relative",
    "bound_relative",
)
FIXED = {"tau": 1e-3, "zeta": 0.75, "regions": 10.0}
FLOOR = 1e-7


def draw_precision(precision: str | Path, output: str | Path, *, direction: Literal["r2t", "t2r"]) -> None:
    """Draw the relative error of every aggregator against τ, ζ and the number of regions, a row per kind of features.

    Args:
        precision: CSV with one row per setting; a parameter that an aggregator does not have is left empty there.
        direction: region-to-text or text-to-region.
    While one parameter varies the others keep the values of FIXED, or the most frequent one where the CSV lacks those.
    Raises VlalignError when a column is missing.
    """
    try:
        table = pd.read_csv(precision)
    except (FileNotFoundError, ValueError) as error:
        raise VlalignError(f"{precision} is no table ({str(error).strip()}); delete it and measure again") from None
    if missing := set(COLUMNS) - set(table.columns):
        raise VlalignError(f"{precision} lacks the columns {', '.join(sorted(missing))}; delete it and measure again")
    numbers = [name for name in COLUMNS if name not in ("features", "aggregator", "direction")]
    if not all(pd.api.types.is_numeric_dtype(table[name]) for name in numbers):
        raise VlalignError(f"{precision} has text among its numbers; delete it and measure again")
    table = table.assign(label=[_label(*pair) for pair in zip(table["aggregator"], table["samples"], strict=True)])
    colours = {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(dict.fromkeys(table["label"]))}
    # An error is empty where the exact scores are all 0.
    table = table[(table["direction"] == direction) & table["error_relative"].notna()]
    if table.empty:
        return placeholder(output, f"{Path(precision).name} has no rows for {direction}")
    features = list(dict.fromkeys(table["features"]))
    sweeps = [sweep for sweep in SWEEPS if table[sweep].notna().any()]
    with styled():
        figure, axes = panels(len(sweeps) * len(features), columns=len(sweeps), width=3.4, height=2.3, sharey=True)
        ends = []
        for panel, (kind, sweep) in zip(axes, itertools.product(features, sweeps), strict=True):
            ends.append(_draw_sweep(panel, table[table["features"] == kind], sweep, colours=colours))
            if sweep == sweeps[0]:
                panel.set(title=f"{kind} features", ylabel="relative error")
        for panel, labels in zip(axes, ends, strict=True):
            label_ends(panel, labels)
        save(figure, output)


def _label(aggregator: str, samples: float) -> str:
    return aggregator if pd.isna(samples) else f"{aggregator}, {samples:g}"


def _draw_sweep(axes: Axes, table: pd.DataFrame, sweep: str, *, colours: Mapping[str, str]) -> list[End]:
    rows = table[_fixed(table, sweep)]
    ends: list[End] = []
    for label in dict.fromkeys(rows["label"].tolist()):
        part = rows[rows["label"] == label].sort_values(sweep)
        error = part["error_relative"].clip(lower=FLOOR)
        if part[sweep].isna().all():
            axes.axhline(error.iloc[0], color=colours[label], linewidth=1.5)
        else:
            axes.plot(part[sweep], error, "o-", color=colours[label], linewidth=1.5, markersize=3.5)
            _draw_bound(axes, part, sweep, colour=colours[label])
        ends.append((float(error.iloc[-1]), label, colours[label]))
    axes.set(xlabel=SWEEPS[sweep])
    logarithmic(axes, "y")
    if spans_decades(rows[sweep].dropna().tolist()):
        logarithmic(axes, "x")
    axes.axhline(1, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.grid(axis="y")
    return ends


def _draw_bound(axes: Axes, part: pd.DataFrame, sweep: str, *, colour: str) -> None:
    bound = part.dropna(subset="bound_relative")
    if len(bound):
        axes.plot(bound[sweep], bound["bound_relative"].clip(lower=FLOOR), color=colour, linewidth=1.0, linestyle="--")


def _fixed(table: pd.DataFrame, sweep: str) -> pd.Series:
    """Rows that may join a sweep: every other parameter at its fixed value, or empty."""
    keep = pd.Series(True, index=table.index)
    for name, wanted in FIXED.items():
        known = table[name].dropna()
        if name != sweep and len(known):
            value = wanted if (known == wanted).any() else known.mode().iloc[0]
            keep &= table[name].isna() | (table[name] == value)
    return keep
