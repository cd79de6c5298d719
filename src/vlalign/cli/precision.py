"""`vlalign precision`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Annotations, Config, Split, values


def precision(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as results/runs/powerclip/seed-0.")],
    config: Config = "{}",
    split: Split = Path("data/scenes/validation"),
    annotations: Annotations = Path("data/annotations/scenes"),
    output: Annotated[Path | None, typer.Option(help="CSV file to write in place of a table on the terminal.")] = None,
) -> None:
    """Measure the aggregators against the exact powerset on random, clustered and the run's own features."""
    from rich.console import Console

    from vlalign.analysis.precision import precision_rows, precision_table, write_precision
    from vlalign.models import load
    from vlalign.reporting.results import read_run, run_params, weights_by_place

    settings = parameters.PrecisionParams.model_validate(values(config))
    powerset = run_params(read_run(run)).objective.powerset
    rows = precision_rows(load(run), powerset, split, annotations, settings)
    if output is not None:
        write_precision(rows, output, weights=weights_by_place([run]))
    else:
        Console().print(precision_table(rows))
