"""What runs find for single captions and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vlalign.params.base import Few
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Illustration

if TYPE_CHECKING:
    import numpy as np

    from vlalign.analysis.examples import Answers, Retrieved
    from vlalign.analysis.illustrations import ShownRun
    from vlalign.reporting.results import Results

PICTURES, CAPTIONS = "pictures", "captions"
# Inches of a picture, of a run's texts, and between pictures, runs and queries.
SIDE, WIDTH, GAP = 0.7, 3.3, 0.07
BETWEEN = 0.3


class RetrievalExamples(Illustration):
    """The pictures that are found for a caption, and the captions that are found for a picture, by each run."""

    benchmarks: ClassVar = ("retrieval",)
    section = "Retrieval"
    figure: Literal["retrieval-examples"] = "retrieval-examples"
    queries: Few = Field(default=4, description="Captions, and pictures, that something is found for")
    pictures: Few = Field(default=5, description="How many are shown for a caption, the most similar first")
    captions: Few = Field(default=3, description="How many are shown for a picture, the most similar first")

    def names(self) -> tuple[str, ...]:
        """Pictures for captions, and captions for pictures."""
        return tuple(f"{self.name}-{found}" for found in (PICTURES, CAPTIONS))

    def see(self, run: "ShownRun") -> "Retrieved | None":
        """Nothing of runs that are not compared."""
        from vlalign.analysis.examples import retrieved

        return retrieved(run, images=self.pictures, captions=self.captions) if run.is_compared else None

    def draw(self, name: str, source: "Mapping[str, Retrieved | None]", output: Path) -> None:
        """Each query above what the runs find for it, side by side; right answers are blue."""
        seen = {run: found for run, found in source.items() if found is not None}
        if not seen:
            return style.placeholder(output, "no run was asked for anything")
        found = PICTURES if name == f"{self.name}-{PICTURES}" else CAPTIONS
        with style.page(output) as page:
            (_draw_pictures if found == PICTURES else _draw_captions)(page, seen, self.queries)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        rule = (
            "In the order of the evaluated split: first the queries that one run gets right and another wrong, then "
            "others. One seed of each run."
        )
        if name == f"{self.name}-{PICTURES}":
            return Caption(
                "Pictures that are found for a caption",
                f"The {self.pictures} most similar pictures, the best left. Blue frame: the caption's own picture. "
                "✓ it is the best; ✗ it is not, and at which place it is.",
                f"Of each picture its first caption is a query. {rule}",
            )
        return Caption(
            "Captions that are found for a picture",
            f"The {self.captions} most similar captions, the best first. Blue: the picture's own. ✓ the best is one of "
            "them; ✗ it is not, and at which place the first of them is.",
            rule,
        )


def chosen(right: "Sequence[np.ndarray]", candidates: "np.ndarray", count: int) -> list[int]:
    """The first `count` queries, those that are right for one run and wrong for another before all others.

    right: for each run whether each query is right, bool [N]. candidates: the rows that may be chosen, in order.
    """
    import numpy as np

    differs_N = np.ptp(np.stack(right).astype(int), axis=0) > 0
    return candidates[np.argsort(~differs_N[candidates], kind="stable")][:count].tolist()


def _draw_pictures(page: "style.Page", seen: "Mapping[str, Retrieved]", count: int) -> None:
    import numpy as np

    from vlalign.analysis.examples import thumbnails

    first = next(iter(seen.values()))
    answers = {run: found.to_images for run, found in seen.items()}
    candidates = np.unique(first.caption_image_C, return_index=True)[1]
    queries = chosen([one.is_right for one in answers.values()], candidates, count)
    needed = {image for one in answers.values() for image in one.best_NK[queries].ravel().tolist()}
    pictures = thumbnails(first.split, needed, resize_mode=first.resize_mode)
    top = _draw_tally(page, answers, np.arange(len(first.captions)), "captions")
    width = first.to_images.best_NK.shape[1] * (SIDE + GAP)
    for query in queries:
        top += page.text(0, top, f"“{first.captions[query]}”", width=width * len(seen) + BETWEEN, fontweight="bold")
        for number, (run, one) in enumerate(answers.items()):
            left = number * (width + BETWEEN)
            head = _draw_verdict(page, run, int(one.rank_N[query]), left, top)
            for place, image in enumerate(one.best_NK[query].tolist()):
                colour = style.HIT if image == first.caption_image_C[query] else style.RULE
                page.picture(pictures[image], left + place * (SIDE + GAP), top + head, SIDE, colour=colour)
        top += head + SIDE + BETWEEN


def _draw_captions(page: "style.Page", seen: "Mapping[str, Retrieved]", count: int) -> None:
    import numpy as np

    from vlalign.analysis.examples import thumbnails

    first = next(iter(seen.values()))
    answers = {run: found.to_captions for run, found in seen.items()}
    # A picture without captions is no query.
    candidates = np.unique(first.caption_image_C)
    queries = chosen([one.is_right for one in answers.values()], candidates, count)
    pictures = thumbnails(first.split, queries, resize_mode=first.resize_mode)
    top = _draw_tally(page, answers, candidates, "pictures")
    for query in queries:
        page.picture(pictures[query], 0, top, SIDE)
        bottoms = [top + SIDE]
        for number, (run, one) in enumerate(answers.items()):
            left, bottom = SIDE + 0.2 + number * (WIDTH + BETWEEN), top
            bottom += _draw_verdict(page, run, int(one.rank_N[query]), left, bottom)
            for caption in one.best_NK[query].tolist():
                colour = style.HIT if first.caption_image_C[caption] == query else style.INK
                bottom += page.text(left, bottom, first.captions[caption], width=WIDTH, lines=2, color=colour)
            bottoms.append(bottom)
        top = max(bottoms) + BETWEEN


def _draw_verdict(page: "style.Page", run: str, rank: int, left: float, top: float) -> float:
    """Whether a run is right, and where its first right answer stands; returns the height in inches."""
    text = f"{run} ✓" if rank == 0 else f"{run} ✗ (place {rank + 1:,})"
    return page.text(left, top, text, width=WIDTH, color=style.HIT if rank == 0 else style.MISS) + 0.04


def _draw_tally(page: "style.Page", answers: "Mapping[str, Answers]", rows: "np.ndarray", what: str) -> float:
    """How many of all queries, which have these rows, each run gets right: nobody counts the few that are shown."""
    parts = (f"{run} is right for {int(one.is_right[rows].sum()):,}" for run, one in answers.items())
    text = f"Of all {len(rows):,} {what} {', '.join(parts)}."
    return page.text(0, 0, text, width=8, color=style.MUTED) + BETWEEN / 2
