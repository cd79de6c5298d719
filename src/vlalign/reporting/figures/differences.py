"""Arms beside each other: paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured, intervals

if TYPE_CHECKING:
    from vlalign.evaluation.benchmark import Metric
    from vlalign.reporting.results import Results


class Differences(Figure):
    """Each arm's paired difference to the baseline, a panel for each headline metric."""

    section = "Summary"
    figure: Literal["differences"] = "differences"

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """Bars are 95 % Student-t intervals over seeds. A filled dot: the interval excludes zero. A hollow one: it
        contains zero, or there is no interval because there is one seed.
        """
        results, measured = source.results, source.results.headline
        arms = [arm for arm in results.arms if arm != results.baseline]
        if not arms or not measured or results.baseline not in results.arms:
            return style.placeholder(output, f"nothing to compare with {results.baseline}")
        colours = style.arm_colours(results.arms, baseline=results.baseline)
        columns = 4
        with style.panels(output, len(measured), columns=columns, width=2.55, height=0.75 + 0.235 * len(arms)) as axes:
            for index, (panel, metric) in enumerate(zip(axes, measured, strict=True)):
                _draw_forest(panel, metric, results=results, arms=arms, colours=colours)
                style.name_rows(panel, arms, colours=colours, shown=index % columns == 0)
            # Scores in percent share one scale: panels of their own would draw noise as large as effects.
            percent = [panel for panel, metric in zip(axes, measured, strict=True) if metric.unit == "percent"]
            limits = [limit for panel in percent for limit in panel.get_xlim()]
            for panel in percent:
                # An interval of few seeds may be wider than any difference can be.
                panel.set_xlim(max(min(limits), -100), min(max(limits), 100))
            for panel, metric in zip(axes, measured, strict=True):
                low, high = panel.get_xlim()
                low, high = min(low, -0.08 * (high - low)), max(high, 0.08 * (high - low))
                panel.set_xlim(low, high)
                better = (0, high) if metric.direction == "higher" else (low, 0)
                panel.axvspan(*better, color="#0072b2", alpha=0.06, linewidth=0)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            f"What moves against {results.baseline}, and what does not",
            "Each dot is an arm's mean difference, in points; filled where the interval excludes zero, hollow where it "
            "does not or where there is none. The better side is tinted. Scores in percent share one scale; the "
            "modality gap has its own.",
            f"Difference to {results.baseline} with the same seed. "
            f"{intervals(results, 'Bars: 95 % Student-t intervals')} "
            "Seeds change initialisation and sample order; the test set is the same for all.",
        )


def _draw_forest(
    axes: "style.Axes", metric: "Metric", *, results: "Results", arms: Sequence[str], colours: Mapping[str, str]
) -> None:
    from vlalign.reporting.cells import tone

    axes.axvline(0, color=style.MUTED, linewidth=0.9)
    for row, arm in enumerate(arms):
        difference = results.difference(arm, metric, reference=results.baseline)
        if difference is None:
            continue
        decided = tone(difference, direction=metric.direction) in ("better", "worse")
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [row, row], color=colours[arm], linewidth=1.6)
        face = colours[arm] if decided else "white"
        axes.plot(difference.mean, row, "o", markersize=5.2, mfc=face, mec=colours[arm], mew=1.3)
    axes.set_title(metric.label)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x")
