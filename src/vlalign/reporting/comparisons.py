"""Arms beside each other: paired differences, and grounding by kind of phrase."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from vlalign.evaluation.benchmark import Metric
from vlalign.reporting.cells import number, tone
from vlalign.reporting.results import Results
from vlalign.reporting.stats import half_width
from vlalign.reporting.style import INK, MUTED, arm_colours, panels, placeholder, save, styled


def draw_differences(results: Results, output: str | Path) -> None:
    """Draw each arm's paired difference to the baseline, one panel per headline metric.

    Bars are 95 % Student-t intervals over seeds. A filled dot: the interval excludes zero. A hollow one: it contains
    zero, or there is no interval because there is one seed.
    """
    measured = results.headline
    arms = [arm for arm in results.arms if arm != results.baseline]
    if not arms or not measured or results.baseline not in results.arms:
        return placeholder(output, f"nothing to compare with {results.baseline}")
    colours = arm_colours(results.arms, baseline=results.baseline)
    columns = 4
    with styled():
        figure, axes = panels(len(measured), columns=columns, width=2.55, height=0.75 + 0.235 * len(arms))
        for index, (panel, metric) in enumerate(zip(axes, measured, strict=True)):
            _draw_forest(panel, metric, results=results, arms=arms, colours=colours)
            _name_rows(panel, arms, colours=colours, shown=index % columns == 0)
        _share_scale([panel for panel, metric in zip(axes, measured, strict=True) if metric.unit == "percent"])
        for panel, metric in zip(axes, measured, strict=True):
            _tint_better(panel, metric)
        save(figure, output)


def _draw_forest(
    axes: Axes, metric: Metric, *, results: Results, arms: Sequence[str], colours: Mapping[str, str]
) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.9)
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


def _share_scale(axes: Sequence[Axes]) -> None:
    """Give all scores in percent one scale: panels of their own would draw noise as large as effects."""
    if axes:
        low, high = min(panel.get_xlim()[0] for panel in axes), max(panel.get_xlim()[1] for panel in axes)
        for panel in axes:
            panel.set_xlim(low, high)


def _tint_better(axes: Axes, metric: Metric) -> None:
    low, high = axes.get_xlim()
    low, high = min(low, -0.08 * (high - low)), max(high, 0.08 * (high - low))
    axes.set_xlim(low, high)
    axes.axvspan(*((0, high) if metric.direction == "higher" else (low, 0)), color="#0072b2", alpha=0.06, linewidth=0)


def _name_rows(axes: Axes, arms: Sequence[str], *, colours: Mapping[str, str], shown: bool) -> None:
    axes.set_yticks(range(len(arms)), arms if shown else [""] * len(arms))
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(colours[arm])
    axes.spines["left"].set_visible(False)


def draw_grounding(results: Results, output: str | Path) -> None:
    """Draw the share of phrases whose k best masks are their referents: a panel per kind of phrase, a bar per arm.

    Bars are means over seeds in percent, whiskers 95 % Student-t intervals of the mean, dashed lines chance.
    """
    kinds = results.groups("grounding", "top_k")
    if not kinds:
        return placeholder(output, "no run was evaluated on grounding")
    colours = arm_colours(results.arms, baseline=results.baseline)
    columns = min(len(kinds), 5)
    with styled():
        figure, axes = panels(len(kinds), columns=columns, width=2.2, height=0.85 + 0.26 * len(results.arms))
        for index, (panel, kind) in enumerate(zip(axes, kinds, strict=True)):
            _draw_bars(panel, kind, results=results, colours=colours)
            _name_rows(panel, results.arms, colours=colours, shown=index % columns == 0)
        save(figure, output)


def _draw_bars(axes: Axes, kind: str, *, results: Results, colours: Mapping[str, str]) -> None:
    metric = Metric("top_k", kind, group=kind, benchmark="grounding")
    for row, arm in enumerate(results.arms):
        spread, values = results.spread(arm, metric), list(results.values(arm, metric).values())
        if spread is None:
            continue
        half = half_width(values) or 0.0
        axes.barh(row, spread.mean, height=0.62, color=colours[arm], alpha=0.85, linewidth=0)
        if half:
            bounds = [max(0.0, spread.mean - half), min(100.0, spread.mean + half)]
            axes.plot(bounds, [row, row], color=INK, linewidth=1.0)
        end = min(100.0, spread.mean + half)
        axes.annotate(
            number(spread.mean), (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5
        )
    chance = results.chance(metric)
    if chance is not None:
        axes.axvline(chance, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        axes.annotate(
            "chance",
            (chance, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 1),
            textcoords="offset points",
            fontsize=7,
            color=MUTED,
            va="bottom",
        )
    axes.set(xlim=(0, 112), ylim=(len(results.arms) - 0.5, -0.6), xticks=[0, 25, 50, 75, 100], xlabel="% of phrases")
    axes.set_title(kind.replace("_", " "), pad=14)
