"""`vlalign evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vlalign import params as parameters
from vlalign.cli.options import Annotations, Config, Data, Output, Previous, values


def evaluate(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Data,
    annotations: Annotations,
    output: Output,
    config: Config = "{}",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    previous: Previous = None,
) -> None:
    """Measure one run, or another model that open_clip reads: one JSON file for each benchmark.

    A run whose metrics go into its own folder also gets its model card there, README.md. What is measured, and the
    headline numbers, are logged.
    """
    import torch

    from vlalign.evaluation.metrics import take_measured
    from vlalign.evaluation.run import evaluate, subject
    from vlalign.reporting.card import has_card, write_card

    torch.set_num_threads(threads)
    # Before the long measuring: what is wrong with the run's record would be found after it.
    carded = output.resolve() == (run / "metrics").resolve() and has_card(run)
    settings = parameters.EvaluationParams.model_validate(values(config))
    asked: dict[str, Any] = {"data": data, "annotations": annotations, "settings": settings}
    if not take_measured(previous, output, subject(run, **asked)):
        evaluate(run, **asked, output_dir=output)
    if carded:
        write_card(run)
