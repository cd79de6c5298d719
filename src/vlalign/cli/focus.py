"""`vlalign focus`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Output


def focus(
    metrics: Annotated[Path, typer.Option(help="JSON file of `vlalign collect`.")],
    run: Annotated[Path, typer.Option(help="Folder of the run's first seed.")],
    output: Output,
) -> None:
    """Put one run's metrics, params and history at the root, for `dvc metrics`, `dvc params` and `dvc plots`."""
    from vlalign.reporting.collect import focus_files

    focus_files(metrics, run, output)
