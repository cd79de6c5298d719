"""Training curves, and metrics along the values of an ablation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import Metric
from vlalign.reporting.results import Grid, Results, is_number
from vlalign.reporting.stats import Spread, spread
from vlalign.reporting.style import (
    BASELINE,
    INK,
    arm_colours,
    key,
    logarithmic,
    panels,
    placeholder,
    save,
    spans_decades,
    styled,
)
from vlalign.training.term import known_terms


def labels() -> dict[str, str]:
    """What each column of a history is called, in the order of the panels; the terms name their own."""
    terms = [label for kind in known_terms().values() for label in kind.labels.items()]
    losses = {name for kind in known_terms().values() for name in kind.weights(kind.Params())}
    return {
        "loss": "Total loss",
        **{name: label for name, label in terms if name in losses},
        **{name: label for name, label in terms if name not in losses},
        "val_loss": "InfoNCE on validation",
        "val_i2t_r1": "Image → text R@1 on validation",
        "logit_scale": "Logit scale",
        "grad_norm": "Gradient norm",
    }


# Points of a curve that are shown one by one.
FEW = 12


def draw_training(results: Results, output: str | Path, *, terms: Sequence[str] | None = None) -> None:
    """Draw logged terms against the step: seeds thin, their smoothed mean thick. Ablations are left out.

    A term that is empty in a run's history.csv is not drawn for that run, and a term that no run has gets no panel.
    Raises VlalignError when a history.csv is missing.
    """
    histories = {arm: [_history(run.directory) for run in results.runs if run.name == arm] for arm in results.arms}
    known = labels() if terms is None else terms
    terms = [term for term in known if any(_logged(history, term) for many in histories.values() for history in many)]
    if not terms:
        return placeholder(output, "no training step was logged")
    colours = arm_colours(results.arms, baseline=results.baseline)
    with styled():
        figure, axes = panels(len(terms), columns=3, width=3.5, height=2.35)
        for panel, term in zip(axes, terms, strict=True):
            _draw_term(panel, term, histories=histories, colours=colours)
        key(figure, {arm: colours[arm] for arm in results.arms})
        save(figure, output)


def _draw_term(axes: Axes, term: str, *, histories: dict[str, list[pd.DataFrame]], colours: dict[str, str]) -> None:
    everything: list[float] = []
    for arm, many in histories.items():
        # A row that only validation asked for has no statistics of the scores, and most rows have no validation.
        seeds = [history.set_index("step")[term].dropna() for history in many if _logged(history, term)]
        if not seeds:
            continue
        mean = _smooth(pd.concat(seeds, axis=1).dropna().mean(axis=1))
        for seed in seeds:
            axes.plot(seed.index, seed, color=colours[arm], linewidth=0.5, alpha=0.35)
        # Where measurements are few, a line alone would hide how few.
        marker = "o" if len(mean) <= FEW else ""
        axes.plot(mean.index, mean, color=colours[arm], linewidth=1.8, marker=marker, markersize=3.5)
        everything += [value for seed in seeds for value in seed]
    if spans_decades(everything):
        logarithmic(axes, "y")
    last = max(history["step"].max() for many in histories.values() for history in many)
    axes.set(title=labels()[term], xlabel="step", xlim=(0, 1.02 * last))
    axes.grid(axis="y")


def _history(directory: Path) -> pd.DataFrame:
    file = directory / "history.csv"
    try:
        history = pd.read_csv(file)
    except FileNotFoundError:
        raise VlalignError(f"{file} does not exist; train the run again") from None
    except ValueError as error:  # of pandas' parser, and of its decoder
        raise VlalignError(f"{file} is no table ({str(error).strip()}); delete the run and train it again") from None
    if "step" not in history or not all(map(pd.api.types.is_numeric_dtype, history.dtypes)):
        raise VlalignError(f"{file} has no column `step`, or text among its numbers; delete the run and train it again")
    return history


def _logged(history: pd.DataFrame, term: str) -> bool:
    return term in history and bool(history[term].notna().any())


def _smooth(series: pd.Series) -> pd.Series:
    return series.rolling(max(1, len(series) // 25), center=True, min_periods=1).mean()


def draw_ablation(results: Results, name: str, output: str | Path) -> None:
    """Draw headline metrics against the values of ablation `name`, beside the baseline's mean and its SD as a band
    where the grid's runs were trained as long and otherwise alike.

    Small dots are seeds, the line joins their means. The axis is logarithmic where values span decades; values that
    are not all numbers, or that mix zero with decades, stand at equal distances. The caption of the report says what
    the ablation varies. Raises VlalignError for an unknown ablation.
    """
    grid = next((grid for grid in results.grids if grid.name == name), None)
    if grid is None:
        known = ", ".join(grid.name for grid in results.grids) or "none"
        raise VlalignError(f"no run belongs to an ablation {name!r}; there are: {known}")
    measured = [metric for metric in results.headline if any(results.values(run, metric) for _, run in grid.points)]
    if not measured:
        return placeholder(output, f"no metric was measured for the ablation {name}")
    colour = arm_colours(results.arms, baseline=results.baseline).get(grid.arm, INK)
    with styled():
        figure, axes = panels(len(measured), columns=4, width=2.7, height=2.15)
        for panel, metric in zip(axes, measured, strict=True):
            _draw_grid(panel, grid, metric, results=results, colour=colour)
        save(figure, output)


def _draw_grid(axes: Axes, grid: Grid, metric: Metric, *, results: Results, colour: str) -> None:
    positions = _place(axes, [value for value, _ in grid.points])
    found = [(x, results.values(run, metric)) for x, (_, run) in zip(positions, grid.points, strict=True)]
    found = [(x, values) for x, values in found if values]
    if not grid.changed:
        _baseline_band(axes, results.spread(results.baseline, metric), name=results.baseline)
    for x, values in found:
        axes.plot([x] * len(values), list(values.values()), "o", color=colour, markersize=3.2, alpha=0.4, mew=0)
    means = [spread(values.values()).mean for _, values in found]
    axes.plot([x for x, _ in found], means, "o-", color=colour, linewidth=1.6, markersize=4.8)
    axes.set(title=metric.label, xlabel=grid.name)
    axes.grid(axis="y")


def _place(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Set the horizontal axis for `values` and return their positions on it."""
    numeric = all(is_number(value) for value in values)
    if numeric and spans_decades(values):
        logarithmic(axes, "x")
        axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
        return [float(value) for value in values]
    if numeric and not spans_decades([value for value in values if value > 0]):
        axes.margins(x=0.08)
        return [float(value) for value in values]
    labels = [f"{value:g}" if is_number(value) else str(value).replace(" ", "\n") for value in values]
    axes.set_xticks(range(len(values)), labels)
    axes.set_xlim(-0.5, len(values) - 0.5)
    return [float(index) for index in range(len(values))]


def _baseline_band(axes: Axes, baseline: Spread | None, *, name: str) -> None:
    if baseline is None:
        return
    axes.axhline(baseline.mean, color=BASELINE, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    if baseline.sd:
        low, high = baseline.mean - baseline.sd, baseline.mean + baseline.sd
        axes.axhspan(low, high, color=BASELINE, alpha=0.13, linewidth=0)
    axes.annotate(
        name,
        (1.0, baseline.mean),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=BASELINE,
    )
