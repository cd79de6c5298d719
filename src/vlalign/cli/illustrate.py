"""`vlalign illustrate`."""

from typing import Annotated

import typer

from vlalign.cli.options import Annotations, Data, Output, Runs


def illustrate(
    run: Runs,
    data: Data,
    annotations: Annotations,
    output: Output,
    split: Annotated[str, typer.Option(help="Split that is shown.")],
    compared: Annotated[list[str], typer.Option(help="Run whose similarities are drawn; repeat.")],
) -> None:
    """Draw region-phrase similarities and embeddings of runs."""
    from vlalign.evaluation.illustrate import illustrate

    named = {folder.parent.name: folder for folder in run}
    illustrate(named, data=data, annotations=annotations, split=split, compared=tuple(compared), output=output)
