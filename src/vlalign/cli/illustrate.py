"""`vlalign illustrate`."""

from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Annotations, Config, Data, Output, Runs, values


def illustrate(
    config: Config,
    run: Runs,
    data: Data,
    annotations: Annotations,
    output: Output,
    split: Annotated[str, typer.Option(help="Split that is shown.")],
    compared: Annotated[list[str], typer.Option(help="Run whose view of pictures is drawn; repeat.")],
) -> None:
    """Draw the figures that need trained models."""
    from vlalign.analysis.illustrations import shown_runs
    from vlalign.reporting.illustrate import illustrate

    figures = parameters.ReportParams.model_validate(values(config)).figures or ()
    named = {folder.parent.name: folder for folder in run}
    runs = shown_runs(named, data=data, annotations=annotations, split=split, compared=compared)
    illustrate(figures, runs, output)
