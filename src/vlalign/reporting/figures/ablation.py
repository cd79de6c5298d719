"""Metrics along the values of an ablation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vlalign.errors import VlalignError
from vlalign.params.base import Name
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured

if TYPE_CHECKING:
    from vlalign.evaluation.benchmark import Metric
    from vlalign.params import Params
    from vlalign.reporting.results import Grid, Results


class AblationFigure(Figure):
    """Headline metrics against the values of each ablation, beside the baseline."""

    section = "Ablations"
    figure: Literal["ablation"] = "ablation"
    grids: tuple[Name, ...] | None = Field(default=None, description="Of which ablations; of all if left out")

    def completed(self, params: "Params") -> Figure:
        """Of the ablations that are run, where none is named; raises ValueError for one that is not run."""
        grids = params.runs.ablations if self.grids is None else self.grids
        for missing in set(grids) - set(params.runs.ablations):
            raise ValueError(f"report.figures: the ablation {missing} is not one of runs.ablations")
        return self.model_copy(update={"grids": grids})

    def names(self) -> tuple[str, ...]:
        """One for each ablation."""
        return tuple(f"{self.name}-{grid}" for grid in self.grids or ())

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """Small dots are seeds, the line joins their means. The baseline's mean with its SD as a band stands where the
        grid's runs were trained as long and otherwise alike. The axis is logarithmic where values span decades; values
        that are not all numbers, or that mix zero with decades, stand at equal distances.

        Raises VlalignError for an unknown ablation.
        """
        results, grid = source.results, self._grid(name, source.results)
        measured = [metric for metric in results.headline if any(results.values(run, metric) for _, run in grid.points)]
        if not measured:
            return style.placeholder(output, f"no metric was measured for the ablation {grid.name}")
        colour = style.arm_colours(results.arms, baseline=results.baseline).get(grid.arm, style.INK)
        with style.panels(output, len(measured), columns=4, width=2.7, height=2.15) as axes:
            for panel, metric in zip(axes, measured, strict=True):
                _draw_grid(panel, grid, metric, results=results, colour=colour)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        grid = self._grid(name, results)
        band = "" if grid.changed else f" Dashed, with a band: {results.baseline}, mean ± one SD over seeds."
        return Caption(
            f"Ablation of {grid.name}",
            f"Headline metrics along the values of {grid.param} of {grid.arm}. Small dots are seeds, large ones their "
            "means.",
            grid.remark + band,
        )

    def _grid(self, name: str, results: "Results") -> "Grid":
        grids = {grid.name: grid for grid in results.grids}
        wanted = name.removeprefix(f"{self.name}-")
        if wanted not in grids:
            raise VlalignError(f"no run belongs to an ablation {wanted!r}; there are: {', '.join(grids) or 'none'}")
        return grids[wanted]


def _draw_grid(axes: "style.Axes", grid: "Grid", metric: "Metric", *, results: "Results", colour: str) -> None:
    from vlalign.reporting.stats import spread

    positions = _place(axes, [value for value, _ in grid.points])
    found = [(x, results.values(run, metric)) for x, (_, run) in zip(positions, grid.points, strict=True)]
    found = [(x, values) for x, values in found if values]
    baseline = None if grid.changed else results.spread(results.baseline, metric)
    if baseline is not None:
        axes.axhline(baseline.mean, color=style.BASELINE, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
        if baseline.sd:
            low, high = baseline.mean - baseline.sd, baseline.mean + baseline.sd
            axes.axhspan(low, high, color=style.BASELINE, alpha=0.13, linewidth=0)
        look = {"fontsize": 7.5, "color": style.BASELINE, "va": "center", "xycoords": ("axes fraction", "data")}
        style.note(axes, results.baseline, (1.0, baseline.mean), offset=(3, 0), **look)
    for x, values in found:
        axes.plot([x] * len(values), list(values.values()), "o", color=colour, markersize=3.2, alpha=0.4, mew=0)
    means = [spread(values.values()).mean for _, values in found]
    axes.plot([x for x, _ in found], means, "o-", color=colour, linewidth=1.6, markersize=4.8)
    axes.set(title=metric.label, xlabel=grid.name)
    axes.grid(axis="y")


def _place(axes: "style.Axes", values: Sequence[Any]) -> list[float]:
    """Set the horizontal axis for `values` and return their positions on it."""
    from vlalign.reporting.results import is_number

    numeric = all(is_number(value) for value in values)
    if numeric and style.spans_decades(values):
        style.logarithmic(axes, "x")
        axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
        return [float(value) for value in values]
    if numeric and not style.spans_decades([value for value in values if value > 0]):
        axes.margins(x=0.08)
        return [float(value) for value in values]
    labels = [f"{value:g}" if is_number(value) else str(value).replace(" ", "\n") for value in values]
    axes.set_xticks(range(len(values)), labels)
    axes.set_xlim(-0.5, len(values) - 0.5)
    return [float(index) for index in range(len(values))]
