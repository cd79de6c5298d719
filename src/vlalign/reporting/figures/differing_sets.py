"""Pictures in which a phrase names other objects to one run than to another."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vlalign.params.base import Few, Name
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Illustration

if TYPE_CHECKING:
    import numpy as np

    from vlalign.analysis.illustrations import ShownRun
    from vlalign.analysis.named_sets import NamedPhrases
    from vlalign.params import Params
    from vlalign.reporting.results import Results

# Inches of a picture with its title, and the letters of a line of that.
WIDTH, HEIGHT, LETTERS = 1.35, 1.75, 19
# How much of what is not in a set is left.
FADED = 0.25


class DifferingSets(Illustration):
    """A phrase's objects beside those that it names to either of two runs, where one run is right and one is not."""

    benchmarks: ClassVar = ("grounding",)
    section = "Grounding"
    rank = 2
    figure: Literal["differing-sets"] = "differing-sets"
    runs: tuple[Name, Name] | None = Field(
        default=None,
        description="Two arms; if left out the baseline, and the first other arm with phrases that is not the control",
    )
    scenes: Few = Field(default=4, description="At most this many that only one of them gets right, as many of either")
    referents: Few = Field(default=1, description="Only phrases that mean at least so many objects")

    def completed(self, params: "Params") -> Figure:
        """With the two arms; raises ValueError for one that is not run."""
        arms, report = params.runs.arms, params.report
        for missing in set(self.runs or ()) - set(arms):
            raise ValueError(f"report.figures: differing-sets.runs: {missing} is not one of runs.arms")
        runs = params.all_runs
        apart = (report.baseline, report.control)
        others = [name for name in arms if runs[name].params.needs.phrases and name not in apart]
        if self.runs or not others or report.baseline not in arms:
            return self
        return self.model_copy(update={"runs": (report.baseline, others[0])})

    def compares(self) -> tuple[str, ...]:
        """See Illustration."""
        return self.runs or ()

    def see(self, run: "ShownRun") -> "NamedPhrases | None":
        """Nothing of other runs."""
        from vlalign.analysis.named_sets import named_phrases

        return named_phrases(run) if run.name in self.compares() else None

    def draw(self, name: str, source: "Mapping[str, NamedPhrases | None]", output: Path) -> None:
        """On the left what only the first run gets right, on the right what only the second does. Of each phrase its
        objects, and what it names to either run; everything else is faded.
        """
        seen = {run: found for run in self.compares() if (found := source.get(run)) is not None}
        if len(seen) < 2:
            return style.placeholder(output, "no two runs whose phrases name objects")
        first, second = in_common(*seen.values())
        wanted_N = first.referents_NR.sum(1) >= self.referents
        told = tally(list(seen), first.is_right[wanted_N], second.is_right[wanted_N])
        sides = [
            distinct((one.is_right & ~other.is_right & wanted_N).nonzero()[0], first.places)
            for one, other in ((first, second), (second, first))
        ]
        count = min(self.scenes, *map(len, sides))
        if not count:
            return style.placeholder(output, told)
        _draw(output, dict(zip(seen, (first, second), strict=True)), [side[:count] for side in sides], told)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        one, other = self.runs or ("one run", "the other")
        some = f" Only phrases that mean at least {self.referents} objects." if self.referents > 1 else ""
        return Caption(
            "Where phrases name other objects",
            f"What is meant (dashed), and what the phrase names to {one} and to {other}; all else is faded. Blue: "
            f"named and meant. Orange: named, but not meant. Left: only {one} is right (✓). Right: only {other} is.",
            f"As many phrases on either side, the first ones of the evaluated split, at most one of each picture, so "
            f"that their number says nothing; the line above counts all.{some} A phrase names the subset A with the "
            "largest sum of similarities over |A|^p; p, and the means by which features are centred, are those of "
            "grounding. One seed of each run.",
        )


def in_common(one: "NamedPhrases", other: "NamedPhrases") -> "tuple[NamedPhrases, NamedPhrases]":
    """The phrases that both have, in the same order: towers of a shorter context lack some."""
    both = set(one.places) & set(other.places)
    return _select(one, both), _select(other, both)


def _select(phrases: "NamedPhrases", wanted: set) -> "NamedPhrases":
    from dataclasses import replace

    rows = [row for row, place in enumerate(phrases.places) if place in wanted]
    return replace(
        phrases,
        texts=tuple(phrases.texts[row] for row in rows),
        places=tuple(phrases.places[row] for row in rows),
        referents_NR=phrases.referents_NR[rows],
        named_NR=phrases.named_NR[rows],
    )


def distinct(rows: "np.ndarray", places: Sequence[tuple[int, int, tuple[int, ...]]]) -> list[int]:
    """Of these rows the first of every picture."""
    first: dict[int, int] = {}
    for row in rows.tolist():
        first.setdefault(places[row][0], row)
    return list(first.values())


def tally(runs: Sequence[str], first_N: "np.ndarray", second_N: "np.ndarray") -> str:
    """Of how many of all phrases both runs find the very set, one of them, or neither."""
    both, neither = int((first_N & second_N).sum()), int((~first_N & ~second_N).sum())
    only, other = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    return (
        f"Of {len(first_N):,} phrases {both:,} name exactly what they mean to both runs, {only:,} to {runs[0]} alone, "
        f"{other:,} to {runs[1]} alone, {neither:,} to neither."
    )


def _draw(output: Path, seen: "Mapping[str, NamedPhrases]", sides: Sequence[Sequence[int]], told: str) -> None:
    from vlalign.analysis.named_sets import labelled_pictures

    phrases = next(iter(seen.values()))
    pictures = labelled_pictures(phrases.split, (phrases.places[row][0] for side in sides for row in side))
    ratios = [1, 1, 1, 0.15, 1, 1, 1]
    with style.canvas(output, WIDTH * sum(ratios), HEIGHT * len(sides[0]) + 0.3, layout="constrained") as figure:
        figure.suptitle(told, x=0.01, ha="left", fontsize=8.5, color=style.MUTED)
        grid = figure.subplots(len(sides[0]), 7, squeeze=False, width_ratios=ratios)
        for axes in grid.flat:
            axes.set_axis_off()
        for number, rows in enumerate(zip(*sides, strict=True)):
            for row, panels in zip(rows, (grid[number, :3], grid[number, 4:]), strict=True):
                _draw_phrase(panels, row, seen, *pictures[phrases.places[row][0]])


def _draw_phrase(
    panels: "np.ndarray", row: int, seen: "Mapping[str, NamedPhrases]", image: "np.ndarray", labels: "np.ndarray"
) -> None:
    phrases = next(iter(seen.values()))
    meant = objects(phrases.referents_NR[row])
    _draw_set(panels[0], image, labels, meant=meant)
    panels[0].set_title(textwrap.fill(phrases.texts[row], LETTERS), fontsize=8)
    for axes, (run, found) in zip(panels[1:], seen.items(), strict=True):
        _draw_set(axes, image, labels, named=objects(found.named_NR[row]), meant=meant)
        right = bool(found.is_right[row])
        title, colour = f"{'✓' if right else '✗'} {run}", style.HIT if right else style.MISS
        axes.set_title(textwrap.fill(title, LETTERS), fontsize=8, color=colour)


def objects(chosen_R: "np.ndarray") -> set[int]:
    """The ids of objects, from 1."""
    return set((chosen_R.nonzero()[0] + 1).tolist())


def _draw_set(
    axes: "style.Axes", image: "np.ndarray", labels: "np.ndarray", *, meant: set[int], named: set[int] | None = None
) -> None:
    """A picture of which only a set of objects is not faded: those that are named or, without them, that are meant."""
    import numpy as np
    from scipy.ndimage import binary_fill_holes

    shown = meant if named is None else named
    faded = 255 - FADED * (255 - image.mean(axis=2, keepdims=True))
    inside = np.isin(labels, list(shown))[..., None]
    axes.imshow(np.where(inside, image, faded).astype(np.uint8), interpolation="none")
    for one in sorted(shown):
        # The holes of a wheel would be hidden by their outlines.
        mask = binary_fill_holes(labels == one)
        style.outline(axes, mask, named=named is not None, meant=one in meant, width=1.3)
