"""`vlalign focus`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Digest, Output, ParamsFiles, given


def focus(
    metrics: Annotated[Path, typer.Option(help="JSON file of `vlalign collect`.")],
    run: Annotated[Path, typer.Option(help="Folder of the run's first seed.")],
    output: Output,
    params: ParamsFiles = None,
    digest: Digest = None,
) -> None:
    """Put one run's metrics, params and history at the root, for `dvc metrics`, `dvc params` and `dvc plots`."""
    from vlalign.reporting.collect import focus_files

    told = given(params, anywhere=True).agree(digest, "focus")
    focus_files(metrics, run, output, told.params.evaluation.suites)
