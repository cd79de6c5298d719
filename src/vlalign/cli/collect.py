"""`vlalign collect`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Output, Runs


def collect(
    run: Runs,
    output: Output,
    model: Annotated[list[Path] | None, typer.Option(help="Folder of a model that was evaluated; repeat.")] = None,
) -> None:
    """Gather the metrics of runs into one JSON file: a row for every number that was measured."""
    from vlalign.reporting.collect import collect_metrics

    collect_metrics(run, output, model or ())
