"""`vlalign report`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, Output, ParamsFiles, Runs, given


def report(
    metrics: Annotated[Path, typer.Option(help="JSON file of `vlalign collect`.")],
    run: Runs,
    precision: Annotated[Path, typer.Option(help="CSV file of `vlalign precision`.")],
    figures: Annotated[Path, typer.Option(help="Folder of the drawn figures.")],
    tables: Annotated[Path, typer.Option(help="Folder for the tables.")],
    output: Output,
    manifest: Annotated[list[Path], typer.Option(help="Manifest of data to name, the training split's first; repeat.")],
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Manifest of a split to look for images of the training split in; repeat.")
    ] = None,
    changes: Changes = None,
    params: ParamsFiles = None,
    digest: Digest = None,
) -> None:
    """Write the tables, the figures and the report."""
    from vlalign.reporting.generated_table import generation_tables
    from vlalign.reporting.report import write_report
    from vlalign.reporting.suites import suite_tables

    given_params = given(params, changes, anywhere=True).agree(digest, "report")
    told, folders = given_params.params, given_params.folders
    write_report(
        metrics,
        run,
        params=told.report.model_copy(update={"figures": told.figures}),
        precision=precision,
        figures=figures,
        tables=tables,
        output=output,
        manifests=manifest,
        held_out=held_out or (),
        model_dirs=[folders.model(name) for name in told.models],
        suites=[*suite_tables(told, run, folders, base=given_params.base), *generation_tables(told, folders)],
    )
