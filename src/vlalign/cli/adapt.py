"""`vlalign adapt`."""

from typing import Annotated

import typer

from vlalign.cli.options import (
    Changes,
    Checkpoints,
    Digest,
    OwnData,
    OwnOutput,
    ParamsFiles,
    Processes,
    RunSeed,
    Threads,
    given,
)
from vlalign.cli.pretrain import run_named, train
from vlalign.errors import VlalignError


def adapt(
    run: Annotated[str, typer.Option(help="An arm with `model.adapters`; `vlalign validate` lists all runs.")],
    seed: RunSeed = 0,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    output: OwnOutput = None,
    checkpoints: Checkpoints = None,
    processes: Processes = 1,
    threads: Threads = 1,
    digest: Digest = None,
) -> None:
    """Align frozen towers: train one run's adapters on what `vlalign features` has computed of them.

    A run that was killed continues from its last checkpoint. With KEY=VALUE, which also wins over what the run itself
    changes, or with --data, the run gets a folder of its own below `runs`.
    """
    told = given(params, changes, data=data, of_run=True).agree(digest, "adapt", run=run)
    chosen = run_named(told, run)
    if chosen.params.model.adapters is None:
        raise VlalignError(f"--run {run} has no `model.adapters`; `vlalign pretrain` trains its towers")
    train(told, chosen, seed, output=output, checkpoints=checkpoints, processes=processes, threads=threads)
