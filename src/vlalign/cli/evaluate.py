"""`vlalign evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vlalign.cli.options import Changes, Digest, OwnAnnotations, OwnData, OwnOutput, ParamsFiles, Previous, given


def evaluate(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    annotations: OwnAnnotations = None,
    output: OwnOutput = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    previous: Previous = None,
    digest: Digest = None,
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
    told = given(params, changes, data=data, annotations=annotations, anywhere=True).agree(digest, "evaluate")
    output = told.output(output, run / "metrics")
    # Before the long measuring: what is wrong with the run's record would be found after it.
    carded = output.resolve() == (run / "metrics").resolve() and has_card(run)
    settings = told.params.evaluation
    if data is None:
        settings = settings.model_copy(update={"benchmarks": told.params.benchmarks})
    asked: dict[str, Any] = {"data": told.folders.data, "annotations": told.folders.annotations, "settings": settings}
    if not take_measured(previous, output, subject(run, **asked)):
        evaluate(run, **asked, output_dir=output)
    if carded:
        write_card(run)
