"""Where the powerset's triplet loss trains, and where it does not."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from vlalign.errors import VlalignError
from vlalign.params.base import Name
from vlalign.reporting import style
from vlalign.reporting.cells import shown
from vlalign.reporting.figure import Caption, Figure, Measured
from vlalign.reporting.figures.training import read_history

if TYPE_CHECKING:
    from pandas import DataFrame

    from vlalign.params import Params
    from vlalign.reporting.results import Grid, Results, Run

State = Literal["collapsed", "flat", "unordered", "learns", "open"]
# What each state is called in the key, and its colour: light ones, for ink on them, that differ in brightness too.
STATES: dict[State, tuple[str, str]] = {
    "collapsed": ("collapsed: InfoNCE stays at chance", "#ec8449"),
    "flat": ("flat: S is all but constant", "#f9d9b4"),
    "unordered": ("unordered: S spreads, the margin is not learnt", "#a9d3ee"),
    "learns": ("learns: the term is below that of a constant S", "#5fb795"),
    "open": ("semi-hard: not collapsed, and the term tells no more", "#d9dde3"),
}
# Share of the rows, the last ones, that a state is of.
LAST = 0.25
# InfoNCE over the logarithm of the batch, from which on the towers tell no pairs apart.
AT_CHANCE = 0.9
# The term of a constant S, in margins.
CONSTANT = 2.0
# Inches of a cell.
WIDTH, HEIGHT = 0.78, 0.46


class Phase(NamedTuple):
    """How a run ended: its state, InfoNCE over the logarithm of the batch, and the term and the SD of S in margins."""

    state: State
    contrastive: float
    term: float
    spread: float


def phase_of(history: "DataFrame", *, batch_size: int, margin: float, negatives: str = "hardest") -> Phase:
    """The state that a run of the triplet loss ended in, from its history alone.

    Of the rows that have statistics of S the last quarter counts, by its medians, since single batches are noisy.

    - collapsed: InfoNCE is at least 0.9 log(batch). With all embeddings equal it is log(batch), and it is so at the
      first step: the towers tell no pairs apart, whatever S does.
    - flat: InfoNCE is below that, but the term is at least 2 margins, which is what a constant S costs, and the SD of S
      is less than a margin. Scores so close are hardly a margin apart in any order.
    - unordered: the term is at least 2 margins as well, and the SD of S is a margin or more. There is room for the
      right order, and S has another one.
    - learns: the term is below 2 margins, so that on average positives lead the hardest negatives.

    - open: not collapsed, with semi-hard negatives. They score below the positive, so that the term is small wherever S
      spreads by many margins, in the right order or not; it tells no more.

    Raises VlalignError when the history has no column of the powerset, or no row with statistics.
    """
    columns = ["contrastive", "powerset", "score_sd"]
    if missing := [name for name in columns if name not in history]:
        raise VlalignError(f"it has no column {missing[0]}; draw runs that train with the powerset loss")
    rows = history[["step", *columns]].dropna()
    if rows.empty:
        raise VlalignError("it has no row with statistics of S; train the run again")
    last = rows[rows["step"] > (1 - LAST) * rows["step"].max()].median()
    contrastive = last["contrastive"] / math.log(batch_size)
    term, spread = last["powerset"] / margin, last["score_sd"] / margin
    if contrastive >= AT_CHANCE:
        state: State = "collapsed"
    elif negatives != "hardest":
        state = "open"
    elif term < CONSTANT:
        state = "learns"
    else:
        state = "flat" if spread < 1 else "unordered"
    return Phase(state, contrastive, term, spread)


class Phases(Figure):
    """The state that runs of the powerset's triplet loss end in: the values of ablations, a row each."""

    section = "Training"
    rank = 200
    figure: Literal["phases"] = "phases"
    panels: dict[str, dict[str, Name]] = Field(
        default={},
        description="Title of a panel: name of a row: ablation. If left out, a panel for every ablated param",
    )

    @classmethod
    def has_data(cls, params: "Params") -> bool:
        """Only where it is named: most ablations are of something else."""
        return False

    def completed(self, params: "Params") -> Figure:
        """Raises ValueError for an ablation that is not run, or not of a triplet with a margin."""
        named = {grid for rows in self.panels.values() for grid in rows.values()} or set(params.runs.ablations)
        for missing in sorted(named - set(params.runs.ablations)):
            raise ValueError(f"report.figures: the ablation {missing} is not one of runs.ablations")
        for run in params.all_runs.values():
            powerset = run.params.objective.powerset
            of_margin = powerset.is_used and powerset.loss == "triplet" and powerset.margin > 0
            if run.grid is not None and run.grid.name in named and not of_margin:
                raise ValueError(
                    f"report.figures: phases shows the triplet loss of the powerset, and the run {run.name} has none "
                    "with a margin; name other ablations in its `panels`"
                )
        return self

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """A cell is a run of the first seed; its numbers are InfoNCE over log(batch), and the term in margins.

        Raises VlalignError when a history.csv is missing.
        """
        results = source.results
        found = self._panels(results)
        if not found:
            return style.placeholder(output, "no ablation was run")
        drawn = {run for rows in found.values() for grid in rows.values() for _, run in grid.points}
        # Of several seeds the first one stays.
        phases = {run.name: _phase(run) for run in reversed(results.runs) if run.name in drawn}
        wide = max(len(_values(rows)) for rows in found.values())
        tall = max(len(rows) for rows in found.values())
        with style.panels(output, len(found), columns=2, width=WIDTH * wide + 1.3, height=HEIGHT * tall + 0.75) as axes:
            for panel, (title, rows) in zip(axes, found.items(), strict=True):
                _draw_panel(panel, title, rows, phases=phases, tall=tall, wide=wide)
            _draw_key(axes[0], {phase.state for phase in phases.values()})

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "Where the triplet loss of the powerset trains",
            "Each cell is a run. Above: InfoNCE over the logarithm of the batch, 1 where pairs are not told apart. "
            "Below: the powerset term in margins m, 2 where all scores are equal.",
            "Medians over the last quarter of the rows of history.csv. One seed: neighbours may differ by chance.",
        )

    def _panels(self, results: "Results") -> "dict[str, dict[str, Grid]]":
        """Rows by their names, by the title of their panel."""
        grids = {grid.name: grid for grid in results.grids}
        if not self.panels:
            every: dict[str, dict[str, Grid]] = {}
            for grid in grids.values():
                every.setdefault(grid.param, {})[grid.name] = grid
            return every
        for missing in sorted({grid for rows in self.panels.values() for grid in rows.values()} - set(grids)):
            raise VlalignError(f"no run belongs to an ablation {missing!r}; there are: {', '.join(grids) or 'none'}")
        return {title: {row: grids[grid] for row, grid in rows.items()} for title, rows in self.panels.items()}


def _phase(run: "Run") -> Phase:
    from vlalign.reporting.results import run_params

    params = run_params(run)
    powerset, history = params.objective.powerset, read_history(run.directory)
    how = {"margin": powerset.margin, "negatives": powerset.negatives}
    try:
        return phase_of(history, batch_size=params.train.batch_size, **how)
    except VlalignError as error:
        raise VlalignError(f"{run.directory / 'history.csv'}: {error}") from None


def _values(rows: "Mapping[str, Grid]") -> list[Any]:
    """The values of all rows: numbers in their order, then the others as they come."""
    from vlalign.reporting.results import is_number

    every = {json.dumps(value): value for grid in rows.values() for value, _ in grid.points}.values()
    numbers = sorted(value for value in every if is_number(value))
    return [*numbers, *(value for value in every if not is_number(value))]


def _draw_panel(
    axes: "style.Axes",
    title: str,
    rows: "Mapping[str, Grid]",
    *,
    phases: Mapping[str, Phase],
    tall: int,
    wide: int,
) -> None:
    """Cells of one size in all panels: what a smaller one does not need stays empty."""
    from matplotlib.patches import Rectangle

    values = _values(rows)
    for row, grid in enumerate(rows.values()):
        for value, run in grid.points:
            column, phase = values.index(value), phases[run]
            axes.add_patch(Rectangle((column, row), 0.96, 0.94, facecolor=STATES[phase.state][1], linewidth=0))
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
            axes.text(column + 0.48, row + 0.28, f"{phase.contrastive:.2f}", fontweight="bold", **look)
            axes.text(column + 0.48, row + 0.68, f"{phase.term:.1f} m", **look)
    axes.set(xlim=(0, wide), ylim=(tall, 0), title=title)
    axes.set_xticks([column + 0.48 for column in range(len(values))], list(map(shown, values)))
    axes.set_yticks([row + 0.47 for row in range(len(rows))], list(rows))
    axes.set_xlabel(next(iter(rows.values())).param.removeprefix("objective."), loc="left")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_key(axes: "style.Axes", states: set[State]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=text) for state, (text, colour) in STATES.items() if state in states]
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
