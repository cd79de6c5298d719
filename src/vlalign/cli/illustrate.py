"""`vlalign illustrate`."""

from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, Output, OwnAnnotations, OwnData, ParamsFiles, Runs, given


def illustrate(
    run: Runs,
    compared: Annotated[list[str], typer.Option(help="Run whose view of pictures is drawn; repeat, the subject last.")],
    output: Output,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    annotations: OwnAnnotations = None,
    digest: Digest = None,
) -> None:
    """Draw the figures that need trained models."""
    from vlalign.analysis.illustrations import shown_runs
    from vlalign.reporting.illustrate import illustrate

    told = given(params, changes, data=data, annotations=annotations, anywhere=True).agree(digest, "illustrate")
    named = {folder.parent.name: folder for folder in run}
    folders = told.folders
    where = {"data": folders.data, "annotations": folders.annotations, "features": folders.features}
    runs = shown_runs(named, **where, split=told.params.evaluation.split, compared=compared)
    illustrate(told.params.figures, runs, output)
