"""What a figure of the report is. Every figure is one module of `vlalign.reporting.figures`, which holds its params,
what it is drawn from, how it is drawn, where it stands, and its caption.

Modules of figures are imported wherever params are read, so they import Matplotlib, NumPy and pandas in the functions
that use them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from vlalign.params.base import Strict
from vlalign.registry import Registered

if TYPE_CHECKING:
    from vlalign.analysis.illustrations import ShownRun
    from vlalign.params import Params
    from vlalign.reporting.results import Results


class Caption(NamedTuple):
    """A title, what one sees, and how it was measured."""

    title: str
    seen: str = ""
    measured: str = ""


class Measured(NamedTuple):
    """The results, with the folder of every run and its history.csv, and the CSV file of the aggregators' errors."""

    results: "Results"
    precision: Path


class Figure(Strict, Registered):
    """A figure that is drawn from what was measured. Its fields are its params; `figure` is a Literal of its name."""

    # The rule that draws it.
    rule: ClassVar[Literal["report", "illustrate"]] = "report"
    demanded: ClassVar = ("draw", "caption")
    # Benchmarks without which there is nothing to draw.
    benchmarks: ClassVar[tuple[str, ...]] = ()
    # The heading of the report that it stands below, one of its own if nothing else has it. There, figures stand by
    # rank and then by name.
    section: ClassVar[str] = "Further figures"
    rank: ClassVar[int] = 100

    @classmethod
    def has_data(cls, params: "Params") -> bool:
        """Whether what it shows is measured where these are the params: otherwise it is drawn only if it is named."""
        return set(cls.benchmarks) <= set(params.benchmarks)

    def completed(self, params: "Params") -> "Figure":
        """The figure with what only the whole of params.yaml tells."""
        return self

    def names(self) -> tuple[str, ...]:
        """The names of its SVGs, without `.svg`: its own, alone or with something after a hyphen."""
        return (self.name,)

    def draw(self, name: str, source: Any, output: Path) -> None:
        """Write the SVG of a name to `output`; a placeholder where there is nothing to draw.

        source: a `Measured`; of an `Illustration`, what `see` gave of every run, by the run's name.
        """
        raise NotImplementedError

    def caption(self, name: str, results: "Results") -> Caption:
        """What stands below the SVG of a name."""
        raise NotImplementedError


class Illustration(Figure):
    """A figure that is drawn from trained models and pictures."""

    rule = "illustrate"

    def compares(self) -> tuple[str, ...]:
        """Arms whose view of pictures is shown beside that of the baseline and of the subject; in every such figure."""
        return ()

    def see(self, run: "ShownRun") -> Any:
        """What is drawn of one run, whose model and features are kept no longer than this takes."""
        raise NotImplementedError


def intervals(results: "Results", drawn: str) -> str:
    """What a caption says of the intervals that are `drawn`, such as "Bars: 95 % Student-t intervals"."""
    count = len(results.seeds)
    if count == 1:
        return "One seed, so there are no intervals."
    alike = len({sum(run.name == arm for run in results.runs) for arm in results.arms}) == 1
    return f"{drawn} over {'' if alike else 'up to '}{count} seeds."
