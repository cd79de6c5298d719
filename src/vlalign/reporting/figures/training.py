"""Training curves."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlalign.errors import VlalignError
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured
from vlalign.training.term import known_terms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from vlalign.reporting.results import Results

# Points of a curve that are shown one by one.
FEW = 12


class Training(Figure):
    """Logged terms against the step: seeds thin, their smoothed mean thick. Ablations are left out."""

    section = "Training"
    figure: Literal["training"] = "training"
    terms: tuple[str, ...] | None = Field(
        default=None, description="Columns of history.csv, a panel each; if left out, all that have a label"
    )

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """A term that is empty in a run's history.csv is not drawn for that run, and one that no run has gets no panel.

        Raises VlalignError when a history.csv is missing.
        """
        results = source.results
        histories = {
            arm: [read_history(run.directory) for run in results.runs if run.name == arm] for arm in results.arms
        }
        known = labels() if self.terms is None else self.terms
        every = [history for many in histories.values() for history in many]
        terms = [term for term in known if any(_logged(history, term) for history in every)]
        if not terms:
            return style.placeholder(output, "no training step was logged")
        colours = style.arm_colours(results.arms, baseline=results.baseline)
        with style.panels(output, len(terms), columns=3, width=3.5, height=2.35) as axes:
            for panel, term in zip(axes, terms, strict=True):
                _draw_term(panel, term, histories=histories, colours=colours)
            style.key(axes[0], {arm: colours[arm] for arm in results.arms})

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "Loss terms and health of training",
            "Thin lines are seeds, thick ones their mean. A term is drawn only for the arms that have it.",
            "As logged in history.csv, which is kept with every run; the mean is smoothed over 1/25 of the rows.",
        )


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


def _draw_term(axes: "Axes", term: str, *, histories: "dict[str, list[DataFrame]]", colours: dict[str, str]) -> None:
    import pandas as pd

    everything: list[float] = []
    for arm, many in histories.items():
        # A row that only validation asked for has no statistics of the scores, and most rows have no validation.
        seeds = [history.set_index("step", drop=False)[term].dropna() for history in many if _logged(history, term)]
        if not seeds:
            continue
        mean = pd.concat(seeds, axis=1).dropna().mean(axis=1)
        mean = mean.rolling(max(1, len(mean) // 25), center=True, min_periods=1).mean()
        for seed in seeds:
            axes.plot(seed.index, seed, color=colours[arm], linewidth=0.5, alpha=0.35)
        # Where measurements are few, a line alone would hide how few.
        marker = "o" if len(mean) <= FEW else ""
        axes.plot(mean.index, mean, color=colours[arm], linewidth=1.8, marker=marker, markersize=3.5)
        everything += [value for seed in seeds for value in seed]
    if style.spans_decades(everything):
        style.logarithmic(axes, "y")
    last = max(history["step"].max() for many in histories.values() for history in many)
    axes.set(title=labels().get(term, term), xlabel="step", xlim=(0, 1.02 * last))
    axes.grid(axis="y")


def read_history(directory: Path) -> "DataFrame":
    """The history.csv of a run; raises VlalignError when it is missing or is no table of numbers with a step."""
    import pandas as pd

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


def _logged(history: "DataFrame", term: str) -> bool:
    return term in history and bool(history[term].notna().any())
