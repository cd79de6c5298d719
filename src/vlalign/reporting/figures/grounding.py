"""Arms beside each other: grounding by kind of phrase."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured, intervals

if TYPE_CHECKING:
    from vlalign.reporting.results import Results


class Grounding(Figure):
    """The share of phrases whose k best masks are their referents: a panel for each kind of phrase, a bar per arm."""

    benchmarks: ClassVar = ("grounding",)
    section = "Grounding"
    rank = 0
    figure: Literal["grounding"] = "grounding"

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """Bars are means over seeds in percent, whiskers 95 % Student-t intervals of the mean, dashed lines chance."""
        results = source.results
        kinds = results.groups("grounding", "top_k")
        if not kinds:
            return style.placeholder(output, "no run was evaluated on grounding")
        colours = style.arm_colours(results.arms, baseline=results.baseline)
        measured = {row.run for row in results.select(benchmark="grounding", metric="top_k")}
        arms = [arm for arm in results.arms if arm in measured]
        columns, height = min(len(kinds), 5), 0.85 + 0.26 * len(arms)
        with style.panels(output, len(kinds), columns=columns, width=2.2, height=height) as axes:
            for index, (panel, kind) in enumerate(zip(axes, kinds, strict=True)):
                _draw_bars(panel, kind, arms=arms, results=results, colours=colours)
                style.name_rows(panel, arms, colours=colours, shown=index % columns == 0)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "Phrases that find their objects",
            "Share of phrases whose k most similar object masks are exactly the k objects that they mean, by kind of "
            "phrase. Dashed: ordering the masks at random.",
            f"{intervals(results, 'Whiskers: 95 % Student-t intervals of the mean')} Features are centred.",
        )


def _draw_bars(
    axes: "style.Axes", kind: str, *, arms: Sequence[str], results: "Results", colours: Mapping[str, str]
) -> None:
    from vlalign.evaluation.benchmark import Metric
    from vlalign.reporting.cells import number
    from vlalign.reporting.stats import half_width

    metric = Metric("top_k", kind, group=kind, benchmark="grounding")
    for row, arm in enumerate(arms):
        spread, values = results.spread(arm, metric), list(results.values(arm, metric).values())
        if spread is None:
            continue
        half = half_width(values) or 0.0
        axes.barh(row, spread.mean, height=0.62, color=colours[arm], alpha=0.85, linewidth=0)
        if half:
            bounds = [max(0.0, spread.mean - half), min(100.0, spread.mean + half)]
            axes.plot(bounds, [row, row], color=style.INK, linewidth=1.0)
        end = min(100.0, spread.mean + half)
        style.note(axes, number(spread.mean), (end, row), offset=(4, 0), va="center", fontsize=7.5)
    if (chance := results.chance(metric)) is not None:
        axes.axvline(chance, color=style.INK, linewidth=1.0, linestyle=(0, (2, 2)))
        look = {"fontsize": 7, "color": style.MUTED, "va": "bottom"}
        style.note(axes, "chance", (chance, 1), offset=(2, 1), xycoords=("data", "axes fraction"), **look)
    axes.set(xlim=(0, 112), ylim=(len(arms) - 0.5, -0.6), xticks=[0, 25, 50, 75, 100], xlabel="% of phrases")
    axes.set_title(kind.replace("_", " "), pad=14)
