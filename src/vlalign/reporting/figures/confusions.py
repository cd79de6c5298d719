"""Which classes are taken for which."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vlalign.params.base import Few
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Illustration

if TYPE_CHECKING:
    from vlalign.analysis.examples import Confusions as Counts
    from vlalign.analysis.illustrations import ShownRun
    from vlalign.reporting.results import Results

# Inches of a cell of the matrix.
CELL = 0.3
# At most so many of a class's name.
LETTERS = 26


class Confusions(Illustration):
    """Zero-shot classification by one run: how many images of a class were taken for another one."""

    benchmarks: ClassVar = ("zeroshot",)
    section = "Zero-shot classification"
    figure: Literal["confusions"] = "confusions"
    classes: Few = Field(default=20, description="At most this many, those with the most mistakes")

    def see(self, run: "ShownRun") -> "Counts | None":
        """Nothing of runs that are not the subject."""
        from vlalign.analysis.examples import confusions

        return confusions(run, classes=self.classes) if run.is_subject else None

    def draw(self, name: str, source: "Mapping[str, Counts | None]", output: Path) -> None:
        """Cells have counts; their colour is the share of the class's images, blue where right and orange elsewhere."""
        run, counts = next(((run, seen) for run, seen in source.items() if seen is not None), ("", None))
        if counts is None:
            return style.placeholder(output, "no run was shown images of classes")
        size = len(counts.names)
        elsewhere = counts.elsewhere_S.any()
        with style.canvas(output, CELL * (size + int(elsewhere)) + 2.2, CELL * size + 2.0) as figure:
            axes = figure.subplots()
            _draw_matrix(axes, counts, elsewhere=bool(elsewhere))
            axes.set_title(f"{run}: {counts.right:,} of {counts.images:,} images right")

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "What classes are taken for",
            "A row for the images of each class, a column for the class they are taken for. Numbers are images; a cell "
            "is the darker, the larger its share of the row. Blue: right. Orange: mistakes.",
            f"Zero-shot, by one seed. At most {self.classes} classes, those with the most mistakes from either side, "
            "in the order of the data's list.",
        )


def _draw_matrix(axes: "style.Axes", counts: "Counts", *, elsewhere: bool) -> None:
    import numpy as np
    from matplotlib import colormaps

    size = len(counts.names)
    table = np.column_stack([counts.counts_SS, counts.elsewhere_S][: 1 + elsewhere])
    share = table / np.maximum(table.sum(1) + (0 if elsewhere else counts.elsewhere_S), 1)[:, None]
    right = np.eye(*table.shape)[..., None] > 0
    colours = np.where(right, colormaps["Blues"](0.5 * share), colormaps["Oranges"](0.5 * share))
    colours[table == 0] = 1.0
    axes.imshow(colours, interpolation="none")
    for (row, column), count in np.ndenumerate(table):
        if count:
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7)
    names = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in counts.names]
    axes.set_yticks(range(size), names)
    axes.set_xticks(range(table.shape[1]), [*names, "not shown"][: table.shape[1]], rotation=90)
    axes.set(xlabel="taken for", ylabel="images of")
    axes.set_xticks(np.arange(table.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor")
    axes.tick_params(which="both", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
