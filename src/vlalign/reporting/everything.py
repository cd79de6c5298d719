"""Tables, figures and report in one go, from the files that the workflow has made."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vlalign.data.overlap import Overlap, digests, overlap
from vlalign.errors import VlalignError
from vlalign.records import record_of, stamps, write_record
from vlalign.reporting.collect import collect
from vlalign.reporting.figures import draw_ablation, draw_differences, draw_grounding, draw_precision, draw_training
from vlalign.reporting.report import write_report
from vlalign.reporting.results import Results, check_made_of, load_results
from vlalign.reporting.tables import write_tables

DRAWN_ELSEWHERE = ("similarity.svg", "embeddings.svg")


def write_everything(
    metrics: str | Path,
    run_dirs: Sequence[str | Path],
    *,
    precision: str | Path,
    figures: str | Path,
    tables: str | Path,
    output: str | Path,
    manifests: Sequence[str | Path] = (),
    held_out: Sequence[str | Path] = (),
    baseline: str = "clip",
    control: str = "linear",
) -> None:
    """Write CSV tables into `tables`, SVG figures into `figures` and the HTML report to `output`.

    Args:
        metrics: the collected metrics.json.
        run_dirs: directories of single seeds, in the order in which arms are to appear.
        precision: CSV of the aggregators' errors.
        figures: may hold similarity.svg and embeddings.svg, which need the models; they join the report.
        manifests: manifest.json of the data, for attribution; the first is that of the training split.
        held_out: those of the splits that are measured, in which images of the training split are looked for.
        baseline, control: arms that the others are compared with; either may be absent.
    """
    results = load_results(metrics, run_dirs, baseline=baseline, control=control)
    check_made_of(record_of(precision), results.runs)
    check_made_of(Path(figures) / "illustrations.json", results.runs)
    if results.rows != collect(run_dirs):
        raise VlalignError(f"{metrics} was not collected from these runs; delete it and run the workflow again")
    drawn = draw_all(results, Path(precision), Path(figures))
    drawn += [path for path in (Path(figures) / name for name in DRAWN_ELSEWHERE) if path.exists()]
    written = write_tables(results, tables)
    write_report(results, output, figures=drawn, manifests=manifests, overlaps=_overlaps(manifests, held_out))
    folder = Path(output).parent
    names = [os.path.relpath(path, folder) for path in (output, *drawn, *written)]
    write_record(record_of(output), {"files": stamps(folder, names)})


def _overlaps(manifests: Sequence[str | Path], held_out: Sequence[str | Path]) -> list[Overlap]:
    """Images of the training split in those that are measured, which are named by their path beside it."""
    if not held_out:
        return []
    train, *splits = (Path(path).parent for path in (manifests[0], *held_out))
    known = digests(train)
    return [overlap(known, split, name=os.path.relpath(split, train.parent)) for split in splits]


def draw_all(results: Results, precision: Path, folder: Path) -> list[Path]:
    """Draw every figure that needs no model, and return their paths."""
    draw = {"differences": draw_differences, "grounding": draw_grounding, "training": draw_training}
    if not results.groups("grounding", "top_k"):
        del draw["grounding"]
    paths = []
    for name, figure in draw.items():
        paths.append(folder / f"{name}.svg")
        figure(results, paths[-1])
    for grid in results.grids:
        paths.append(folder / f"ablation-{grid.name}.svg")
        draw_ablation(results, grid.name, paths[-1])
    directions: tuple[Literal["r2t", "t2r"], ...] = ("r2t", "t2r")
    for direction in directions:
        paths.append(folder / f"precision-{direction}.svg")
        draw_precision(precision, paths[-1], direction=direction)
    return paths
