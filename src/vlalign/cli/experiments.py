"""`vlalign experiments`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters


def experiments(
    names: Annotated[list[str] | None, typer.Argument(help="Runs; all of them if left out.")] = None,
    params: Annotated[Path, typer.Option(help="params.yaml of the repository.")] = Path("params.yaml"),
) -> None:
    """Make every arm and ablation run a DVC experiment, without training anything again."""
    from vlalign.experiments import make_experiments

    make_experiments(names or list(parameters.load(params).all_runs))
