"""`vlalign pretrain`."""

import contextlib
import logging
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import (
    Changes,
    Checkpoints,
    Digest,
    Given,
    OwnAnnotations,
    OwnData,
    OwnOutput,
    ParamsFiles,
    Processes,
    RunSeed,
    given,
)
from vlalign.errors import VlalignError

logger = logging.getLogger(__name__)


def pretrain(
    run: Annotated[str, typer.Option(help="An arm, or a value of an ablation; `vlalign validate` lists them.")],
    seed: RunSeed = 0,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    annotations: OwnAnnotations = None,
    output: OwnOutput = None,
    checkpoints: Checkpoints = None,
    processes: Processes = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, which the processes share.")] = 1,
    digest: Digest = None,
) -> None:
    """Train one run with one seed; a run that was killed continues from its last checkpoint.

    The data, the output and the checkpoints are those of the workflow. With KEY=VALUE, which also wins over what the
    run itself changes, or with --data, the run gets a folder of its own below `runs`.

    On several machines, start it with `torchrun ... -m -- vlalign pretrain` on each.
    """
    told = given(params, changes, data=data, annotations=annotations, of_run=True).agree(digest, "pretrain", run=run)
    chosen = run_named(told, run)
    if chosen.params.model.adapters is not None:
        raise VlalignError(f"--run {run} trains adapters on frozen towers: `vlalign adapt` does that")
    train(told, chosen, seed, output=output, checkpoints=checkpoints, processes=processes, threads=threads)


def train(
    told: Given,
    run: parameters.Run,
    seed: int,
    *,
    output: Path | None,
    checkpoints: Path | None,
    processes: int,
    threads: int,
) -> None:
    """What `pretrain` and `adapt` have in common: from what the options say to a finished run."""
    import torch

    from vlalign.training.data.inputs import Inputs
    from vlalign.training.pretrain import Places, pretrain
    from vlalign.training.processes import is_one_of_several, neighbours, start

    folders, first, towers = told.folders, run.params.model.start, run.towers(seed)
    if processes > 1 and not is_one_of_several():
        start(processes, sys.argv[1:])
    torch.set_num_threads(max(1, threads // neighbours()))
    reads = folders.inputs(run.params.needs)
    validation = reads.pop("validation")
    results = folders.run(run.name, seed, below="runs" if told.changes else "results/runs")
    if output:
        told.output(output, results)
    logger.info("%s seed %d goes to %s", run.name, seed, output or results)
    pretrain(
        run,
        seed=seed,
        inputs=Inputs(
            **reads,
            validation=validation if validation.exists() else None,
            start=folders.run(first, seed) if first else None,
            features=folders.towers(towers) if towers else None,
        ),
        places=Places(
            output or results,
            checkpoints or folders.run(run.name, seed, below="checkpoints"),
            folders.run(run.name, seed, below="logs/pretrain"),
            None if output else folders.run(run.name, seed, below="checkpoints/previous/runs"),
        ),
        runtime=told.params.runtime,
    )


def run_named(told: Given, name: str) -> parameters.Run:
    """The run of this name, with what was changed by hand."""
    known = told.params.all_runs
    if name not in known:
        nearest = ", ".join(get_close_matches(name, known, n=5, cutoff=0))
        raise VlalignError(f"--run {name!r:.100} is no run of these params; nearest: {nearest}")
    with contextlib.chdir(told.base):
        return known[name].changed(told.changes) if told.changes else known[name]
