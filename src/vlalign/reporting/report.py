"""Tables, figures and the report's page in one go, from the files that the workflow has made."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlalign.data.shards.overlap import Overlap, digests, overlap
from vlalign.errors import VlalignError
from vlalign.params import ReportParams
from vlalign.records import record_of, stamps, write_record
from vlalign.reporting.cells import Table
from vlalign.reporting.collect import collect
from vlalign.reporting.compare import compare, compare_table
from vlalign.reporting.corrected import corrected_table
from vlalign.reporting.figure import Measured
from vlalign.reporting.page import write_page
from vlalign.reporting.results import Results, check_made_of, load_results
from vlalign.reporting.suites import SECTION as COMPARED
from vlalign.reporting.tables import write_tables


def write_report(
    metrics: str | Path,
    run_dirs: Sequence[str | Path],
    *,
    params: ReportParams,
    precision: str | Path,
    figures: str | Path,
    tables: str | Path,
    output: str | Path,
    manifests: Sequence[str | Path] = (),
    held_out: Sequence[str | Path] = (),
    model_dirs: Sequence[str | Path] = (),
    suites: Sequence[Table] = (),
) -> None:
    """Write CSV tables into `tables`, SVG figures into `figures` and the HTML report to `output`.

    metrics: the collected metrics.json. run_dirs: directories of single seeds, in the order in which arms are to
    appear. params: the figures, and the arms that the others are compared with; either of these may be absent.
    precision: CSV of the aggregators' errors. figures: holds the SVGs that need the models. manifests: manifest.json of
    the data, for attribution; the first is that of the training split. held_out: those of the splits that are measured,
    in which images of the training split are looked for. model_dirs: folders of models that were not trained here.
    suites: tables of what runs and models get on cards. Each of these models is compared, item by item, with the first
    seed of the baseline.
    """
    results = load_results(metrics, run_dirs, baseline=params.baseline, control=params.control)
    check_made_of(record_of(precision), results.runs)
    check_made_of(Path(figures) / "illustrations.json", results.runs)
    if results.rows != collect(run_dirs, model_dirs):
        raise VlalignError(f"{metrics} was not collected from these runs; delete it and run the workflow again")
    paths = {Path(figures) / f"{name}.svg": figure for figure in params.figures or () for name in figure.names()}
    for path, figure in paths.items():
        if figure.rule == "report":
            figure.draw(path.stem, Measured(results, Path(precision)), path)
    tests = [corrected_table(results, params.tests)] if params.tests else []
    suites = [*(table for table in tests if table.rows), *suites, *_comparisons(results, model_dirs)]
    written = write_tables(results, tables, precision=Path(precision), suites=suites)
    write_page(
        output,
        results,
        figures=paths,
        precision=Path(precision),
        manifests=manifests,
        overlaps=_overlaps(manifests, held_out),
        suites=suites,
    )
    folder = Path(output).parent
    names = [os.path.relpath(path, folder) for path in (output, *paths, *written)]
    write_record(record_of(output), {"files": stamps(folder, names)})


def _comparisons(results: Results, model_dirs: Sequence[str | Path]) -> list[Table]:
    """Of every model that was not trained here; those with seeds are compared over seeds."""
    first = next((run.directory for run in results.runs if run.name == results.baseline), None)
    folders = map(Path, model_dirs if first else ())
    return [
        replace(compare_table(compare(folder, first), ours=folder.name, theirs=results.baseline), section=COMPARED)
        for folder in folders
        if first is not None
    ]


def _overlaps(manifests: Sequence[str | Path], held_out: Sequence[str | Path]) -> list[Overlap]:
    """Images of the training split in those that are measured, which are named by their path beside it."""
    if not held_out:
        return []
    train, *splits = (Path(path).parent for path in (manifests[0], *held_out))
    known = digests(train)
    return [overlap(known, split, name=os.path.relpath(split, train.parent)) for split in splits]
