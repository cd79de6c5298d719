"""Figures of what trained runs have learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlalign.analysis.illustrations import shown_runs
from vlalign.records import stamps, write_record
from vlalign.reporting.figure import Figure, Illustration
from vlalign.reporting.results import weights_by_place

# What vouches for the figures.
RECORD = "illustrations.json"


def illustrate(
    run_dirs: Mapping[str, Path],
    *,
    figures: Sequence[Figure],
    data: Path,
    annotations: Path,
    split: str,
    compared: Sequence[str],
    output: Path,
) -> None:
    """Write the SVGs of illustrations into the folder `output`, and the record that vouches for them.

    Args:
        run_dirs: a run's folder by its name, in the order of the panels.
        figures: what is drawn; figures that are no illustrations are left to the report.
        compared: the runs whose view of pictures is drawn.
    """
    drawn: dict[Illustration, dict[str, Any]] = {one: {} for one in figures if isinstance(one, Illustration)}
    for run in shown_runs(run_dirs, data=data, annotations=annotations, split=split, compared=compared):
        for figure, seen in drawn.items():
            seen[run.name] = figure.see(run)
    for figure, seen in drawn.items():
        for name in figure.names():
            figure.draw(name, seen, output / f"{name}.svg")
    files = stamps(output, [f"{name}.svg" for figure in drawn for name in figure.names()])
    write_record(output / RECORD, {"weights": weights_by_place(run_dirs.values()), "files": files})
