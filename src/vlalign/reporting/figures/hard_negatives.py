"""The hard negatives that a run mistakes most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Illustration

if TYPE_CHECKING:
    from vlalign.analysis.examples import HardNegative
    from vlalign.analysis.illustrations import ShownRun
    from vlalign.reporting.results import Results

COLUMNS = 3
# Inches of a cell and of its picture, and between the cells.
WIDTH, PICTURE, GAP = 3.1, 1.0, 0.25


class HardNegatives(Illustration):
    """Of each category the hard negative that is most ahead of the true caption, with its picture."""

    benchmarks: ClassVar = ("composition",)
    section = "Hard negatives"
    figure: Literal["hard-negatives"] = "hard-negatives"

    def see(self, run: "ShownRun") -> "list[HardNegative]":
        """Nothing of runs that are not the subject."""
        from vlalign.analysis.examples import worst_negatives

        return worst_negatives(run) if run.is_subject else []

    def draw(self, name: str, source: "Mapping[str, Sequence[HardNegative]]", output: Path) -> None:
        """Categories stand in the order of the data, row by row."""
        run, items = next(((run, seen) for run, seen in source.items() if seen), ("", ()))
        if not items:
            return style.placeholder(output, "no hard negatives were looked at")
        with style.page(output) as page:
            top = page.text(0, 0, f"By {run}", width=3, color=style.MUTED) + GAP / 2
            for first in range(0, len(items), COLUMNS):
                cells = enumerate(items[first : first + COLUMNS])
                top += max(_draw_item(page, item, column * (WIDTH + GAP), top) for column, item in cells) + GAP

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "The worst hard negatives",
            "Of each category the picture whose false caption is ahead of the true one by most, or behind by least "
            "where all are right. ✓ the true caption, ✗ the false one, each with its similarity; the one that the "
            "model takes is bold.",
            "All items of the evaluated split, by one seed. Items that are equally bad: the first.",
        )


def _draw_item(page: "style.Page", item: "HardNegative", left: float, top: float) -> float:
    """Draw a category and return its height in inches."""
    from vlalign.reporting.cells import number

    head = page.text(left, top, item.category.replace("_", " "), width=WIDTH, fontweight="bold") + 0.05
    page.picture(item.image, left, top + head, PICTURE)
    texts = (("✓", item.item.caption, item.true), ("✗", item.item.negative_caption, item.false))
    height = head
    for (mark, caption, similarity), is_taken in zip(texts, (item.is_right, not item.is_right), strict=True):
        colour, weight = style.HIT if mark == "✓" else style.MISS, "bold" if is_taken else "normal"
        place = left + PICTURE + 0.12, top + height
        text = f"{mark} {number(similarity, digits=2)}: {caption}"
        height += page.text(*place, text, width=WIDTH - PICTURE - 0.12, color=colour, fontweight=weight) + 0.06
    return max(height, head + PICTURE)
