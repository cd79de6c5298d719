"""`vlalign validate`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters


def validate(files: Annotated[list[Path], typer.Argument(help="params.yaml, then overlays.")]) -> None:
    """Check params files, and that the data they name are there, and list the runs that they describe."""
    from vlalign.data.source_checks import check_sources

    loaded = parameters.load(*files)
    parameters.check_root(loaded)
    check_sources(loaded)
    for run in loaded.all_runs.values():
        print(f"{run.name}\tseeds {', '.join(map(str, run.seeds))}")
