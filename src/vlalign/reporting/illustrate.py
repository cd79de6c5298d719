"""Figures of what trained runs have learnt."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlalign.analysis.illustrations import ShownRun
from vlalign.records import stamps, write_record
from vlalign.reporting.figure import Figure, Illustration
from vlalign.reporting.results import weights_by_place

# What vouches for the figures.
RECORD = "illustrations.json"


def illustrate(figures: Iterable[Figure], runs: Iterable[ShownRun], output: Path) -> None:
    """Write the SVGs of the illustrations among `figures` into the folder `output`, and the record that vouches for
    them. The panels have the order of the runs, each of which is looked at by all figures before the next one comes.
    """
    drawn: dict[Illustration, dict[str, Any]] = {one: {} for one in figures if isinstance(one, Illustration)}
    weights: dict[str, str | None] = {}
    for run in runs:
        weights |= weights_by_place([run.directory])
        for figure, seen in drawn.items():
            seen[run.name] = figure.see(run)
    for figure, seen in drawn.items():
        for name in figure.names():
            figure.draw(name, seen, output / f"{name}.svg")
    files = stamps(output, [f"{name}.svg" for figure in drawn for name in figure.names()])
    write_record(output / RECORD, {"weights": weights, "files": files})
