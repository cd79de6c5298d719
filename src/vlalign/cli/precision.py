"""`vlalign precision`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnAnnotations, OwnData, ParamsFiles, given


def precision(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as results/runs/powerclip/seed-0.")],
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    annotations: OwnAnnotations = None,
    output: Annotated[Path | None, typer.Option(help="CSV file to write in place of a table on the terminal.")] = None,
    digest: Digest = None,
) -> None:
    """Measure the aggregators against the exact powerset on random, clustered and the run's own features."""
    from vlalign.analysis.precision import precision_rows, precision_table, write_precision
    from vlalign.console import terminal
    from vlalign.models import load
    from vlalign.reporting.results import read_run, run_params, weights_by_place

    told = given(params, changes, data=data, annotations=annotations, anywhere=True).agree(digest, "precision")
    powerset = run_params(read_run(run)).objective.powerset
    split = told.folders.data / "validation"
    rows = precision_rows(load(run), powerset, split, told.folders.annotations, told.params.report.precision)
    if output is not None:
        write_precision(rows, output, weights=weights_by_place([run]))
    else:
        terminal().print(precision_table(rows))
